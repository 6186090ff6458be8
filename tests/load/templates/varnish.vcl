vcl 4.1;
import std;

# Magento's rules for Varnish 6 and 7, written from what they do; without purges and debugging, which the test has not.
backend default {
  .host = "127.0.0.1";
  .port = "{{nginx}}";
  .first_byte_timeout = 600s;
  .probe = { .url = "/health_check.php"; .timeout = 2s; .interval = 5s; .window = 10; .threshold = 5; .initial = 5; }
}

sub vcl_recv {
  if (req.method != "GET" && req.method != "HEAD") { return (pass); }
  if (req.url ~ "/customer" || req.url ~ "/checkout") { return (pass); }
  if (req.url ~ "^/(pub/)?(health_check.php)$") { return (pass); }
  set req.url = regsub(req.url, "^http[s]?://", "");
  std.collect(req.http.Cookie);
  if (req.url ~ "(\?|&)(gclid|fbclid|msclkid|utm_[a-z]+|mc_[a-z]+|hsa_[a-z]+|gad_[a-z]+|srsltid|dclid)=") {
    set req.url = regsuball(req.url, "(gclid|fbclid|msclkid|utm_[a-z]+|mc_[a-z]+|hsa_[a-z]+|gad_[a-z]+|srsltid|dclid)=[-_A-z0-9+(){}%.]+&?", "");
    set req.url = regsub(req.url, "[?|&]+$", "");
  }
  if (std.healthy(req.backend_hint)) { set req.grace = 300s; } else { set req.grace = 3d; }
  if (req.url ~ "^/(pub/)?(media|static)/") { return (pass); }
  return (hash);
}

sub vcl_hash {
  if (req.http.Cookie ~ "X-Magento-Vary=") {
    hash_data(regsub(req.http.Cookie, "^.*?X-Magento-Vary=([^;]+);*.*$", "\1"));
  }
  if (req.http.X-Forwarded-Proto) { hash_data(req.http.X-Forwarded-Proto); }
}

sub vcl_backend_response {
  set beresp.grace = 3d;
  if (beresp.http.Content-Type ~ "text") { set beresp.do_esi = true; }
  if (bereq.url ~ "\.js$" || beresp.http.Content-Type ~ "text") { set beresp.do_gzip = true; }
  if (beresp.status == 403 || beresp.status == 404 || beresp.status >= 500) {
    set beresp.ttl = 120s;
    set beresp.uncacheable = true;
    return (deliver);
  }
  if (beresp.http.Cache-Control ~ "private") {
    set beresp.uncacheable = true;
    set beresp.ttl = 86400s;
    return (deliver);
  }
  if (beresp.ttl > 0s && (bereq.method == "GET" || bereq.method == "HEAD") && !bereq.uncacheable) { unset beresp.http.Set-Cookie; }
  if (beresp.ttl <= 0s || beresp.http.Surrogate-Control ~ "no-store"
      || (!beresp.http.Surrogate-Control && beresp.http.Cache-Control ~ "no-cache|no-store") || beresp.http.Vary == "*") {
    set beresp.ttl = 120s;
    set beresp.uncacheable = true;
  }
  return (deliver);
}

sub vcl_deliver {
  if (obj.uncacheable) { set resp.http.X-Cache = "PASS"; }
  elsif (obj.hits > 0) { set resp.http.X-Cache = "HIT"; }
  else { set resp.http.X-Cache = "MISS"; }
  if (resp.http.Cache-Control !~ "private" && req.url !~ "^/(pub/)?(media|static)/") {
    set resp.http.Pragma = "no-cache";
    set resp.http.Expires = "-1";
    set resp.http.Cache-Control = "no-store, no-cache, must-revalidate, max-age=0";
  }
  unset resp.http.X-Magento-Tags;
  unset resp.http.X-Powered-By;
  unset resp.http.Server;
  unset resp.http.X-Varnish;
  unset resp.http.Via;
}
