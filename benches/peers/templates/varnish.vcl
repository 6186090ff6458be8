vcl 4.1;
import std;

backend default { .host = "127.0.0.1"; .port = "{{origin}}"; }

# What Magento's VCL does to a request that is a hit, and to a response that is stored.
@shop sub vcl_recv {
@shop   if (req.method != "GET" && req.method != "HEAD") { return (pass); }
@shop   if (req.url ~ "/customer" || req.url ~ "/checkout") { return (pass); }
@shop   if (req.url ~ "^/(pub/)?(health_check.php)$") { return (pass); }
@shop   set req.url = regsub(req.url, "^http[s]?://", "");
@shop   std.collect(req.http.Cookie);
@shop   if (req.url ~ "(\?|&)(gclid|fbclid|msclkid|utm_[a-z]+|mc_[a-z]+|hsa_[a-z]+|gad_[a-z]+|srsltid|dclid)=") {
@shop     set req.url = regsuball(req.url, "(gclid|fbclid|msclkid|utm_[a-z]+|mc_[a-z]+|hsa_[a-z]+|gad_[a-z]+|srsltid|dclid)=[-_A-z0-9+(){}%.]+&?", "");
@shop     set req.url = regsub(req.url, "[?|&]+$", "");
@shop   }
@shop   if (req.url ~ "^/(pub/)?(media|static)/") { return (pass); }
@shop   return (hash);
@shop }
@shop
@shop sub vcl_hash {
@shop   if (req.http.Cookie ~ "X-Magento-Vary=") {
@shop     hash_data(regsub(req.http.Cookie, "^.*?X-Magento-Vary=([^;]+);*.*$", "\1"));
@shop   }
@shop   if (req.http.X-Forwarded-Proto) { hash_data(req.http.X-Forwarded-Proto); }
@shop }
@shop
@shop sub vcl_backend_response {
@shop   set beresp.grace = 3d;
@shop   if (beresp.http.Content-Type ~ "text") { set beresp.do_esi = true; set beresp.do_gzip = true; }
@shop   if (beresp.ttl > 0s) { unset beresp.http.Set-Cookie; }
@shop }
@shop
@shop sub vcl_deliver {
@shop   if (resp.http.Cache-Control !~ "private" && req.url !~ "^/(pub/)?(media|static)/") {
@shop     set resp.http.Pragma = "no-cache";
@shop     set resp.http.Expires = "-1";
@shop     set resp.http.Cache-Control = "no-store, no-cache, must-revalidate, max-age=0";
@shop   }
@shop   unset resp.http.Age;
@shop   unset resp.http.X-Magento-Tags;
@shop   unset resp.http.X-Powered-By;
@shop   unset resp.http.Server;
@shop   unset resp.http.X-Varnish;
@shop   unset resp.http.Via;
@shop }
