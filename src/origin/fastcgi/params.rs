//! FastCGI parameters: what nginx with Magento's configuration tells PHP, in its order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use http::Method;

use crate::exchange::{ADDRESS_MAX_BYTES, Scheme, split_target, write_address};
use crate::fields::Field;
use crate::origin::OriginRequest;
use crate::settings::{self, Endpoint};

/// The script that answers a request; chosen from configuration, never from a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// The file as PHP sees it: `SCRIPT_FILENAME`.
    pub filename: String,
    /// Its path in the site, as `/index.php`: `SCRIPT_NAME`.
    pub name: String,
    /// What follows the script's name in the path: `PATH_INFO`; not sent when empty.
    pub path_info: String,
    /// The root as PHP sees it: `DOCUMENT_ROOT`.
    pub document_root: String,
    /// Parameters of this place, such as `PHP_VALUE`. They come first.
    pub params: Vec<(String, String)>,
}

impl Script {
    /// Magento's front controller below `origin.root`, or below `origin.php_root` where PHP sees
    /// another path.
    pub fn front_controller(settings: &settings::Origin) -> Self {
        let other = !settings.php_root.as_os_str().is_empty();
        let root = if other { &settings.php_root } else { &settings.root };
        let document_root = root.to_string_lossy().trim_end_matches('/').to_owned();
        Self {
            filename: format!("{document_root}/index.php"),
            name: "/index.php".to_owned(),
            document_root,
            ..Self::default()
        }
    }
}

/// Names and values in the order in which they are sent.
pub(super) type Params<'a> = Vec<(Cow<'a, [u8]>, Cow<'a, [u8]>)>;

/// What is the same for each request.
#[derive(Clone, Debug)]
pub(super) struct ParamRules {
    hosts: BTreeMap<String, BTreeMap<String, String>>,
    server_address: String,
}

impl ParamRules {
    /// Rules from `origin.params` and `listen`.
    pub(super) fn new(settings: &settings::Settings) -> Self {
        let mut hosts: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (host, params) in &settings.origin.params {
            hosts.entry(host.to_ascii_lowercase()).or_default().extend(params.clone());
        }
        Self { hosts, server_address: server_address(&settings.listen).to_string() }
    }

    /// The parameters of one request.
    pub(super) fn build<'a>(
        &'a self,
        request: &'a OriginRequest,
        script: &'a Script,
    ) -> Params<'a> {
        let host = host_name(&request.authority);
        let mut params = Params::with_capacity(32 + request.fields.len());
        for (name, value) in &script.params {
            push(&mut params, name, value.as_bytes());
        }
        self.push_cgi(&mut params, request, script, host);
        for (name, value) in self.configured(host) {
            match params.iter_mut().find(|(known, _)| **known == *name.as_bytes()) {
                Some((_, known)) => *known = value.as_bytes().into(),
                None => push(&mut params, name, value.as_bytes()),
            }
        }
        push_fields(&mut params, request);
        params
    }

    fn push_cgi<'a>(
        &'a self,
        params: &mut Params<'a>,
        request: &'a OriginRequest,
        script: &'a Script,
        host: &'a [u8],
    ) {
        let https = request.client.scheme == Scheme::Https;
        let port = |port: u16| match port {
            0 => Vec::new(),
            port => itoa::Buffer::new().format(port).into(),
        };
        // The place may have a query of its own, as `static.php` has.
        let own_query = script.params.iter().any(|(name, _)| name == "QUERY_STRING");
        let query = split_target(&request.target).1.unwrap_or_default();
        let content_type = request.fields.first("content-type");
        push(params, "SCRIPT_FILENAME", script.filename.as_bytes());
        if !own_query {
            push(params, "QUERY_STRING", query);
        }
        push(params, "REQUEST_METHOD", request.method.as_str().as_bytes());
        push(params, "CONTENT_TYPE", content_type.map_or(&b""[..], |value| &value[..]));
        push_text(params, "CONTENT_LENGTH", content_length(request).unwrap_or_default());
        push(params, "SCRIPT_NAME", script.name.as_bytes());
        if !script.path_info.is_empty() {
            push(params, "PATH_INFO", script.path_info.as_bytes());
        }
        push(params, "REQUEST_URI", &request.target);
        push_text(params, "DOCUMENT_URI", [&script.name[..], &script.path_info].concat());
        push(params, "DOCUMENT_ROOT", script.document_root.as_bytes());
        push(params, "SERVER_PROTOCOL", b"HTTP/1.1");
        push(params, "REQUEST_SCHEME", request.client.scheme.as_str().as_bytes());
        if https {
            push(params, "HTTPS", b"on");
        }
        push(params, "GATEWAY_INTERFACE", b"CGI/1.1");
        push(params, "SERVER_SOFTWARE", concat!("parvis/", env!("CARGO_PKG_VERSION")).as_bytes());
        push_text(params, "REMOTE_ADDR", address(request.client.address));
        push_text(params, "REMOTE_PORT", port(request.client.port));
        push(params, "REMOTE_USER", b"");
        push(params, "SERVER_ADDR", self.server_address.as_bytes());
        push_text(params, "SERVER_PORT", port(request.client.server_port));
        push(params, "SERVER_NAME", host);
        push(params, "REDIRECT_STATUS", b"200");
    }

    /// `origin.params` of the host itself over those of `*`.
    fn configured(&self, host: &[u8]) -> BTreeMap<&String, &String> {
        if self.hosts.is_empty() {
            return BTreeMap::new();
        }
        let host = String::from_utf8_lossy(host).to_ascii_lowercase();
        let tables = [self.hosts.get("*"), self.hosts.get(&host)];
        tables.into_iter().flatten().flatten().collect()
    }
}

/// The first address we listen on that names one; else loopback, since whoever asks for
/// `SERVER_ADDR` wants an address of this machine.
fn server_address(listen: &settings::Listen) -> IpAddr {
    let endpoints = listen.http.iter().chain(&listen.https);
    let mut addresses = endpoints.filter_map(|endpoint| match endpoint {
        Endpoint::Tcp(address) if !address.ip().is_unspecified() => Some(address.ip()),
        Endpoint::Tcp(_) | Endpoint::Unix(_) => None,
    });
    addresses.next().unwrap_or(IpAddr::from([127, 0, 0, 1]))
}

/// The host without its port.
fn host_name(authority: &[u8]) -> &[u8] {
    let colon = memchr::memrchr(b':', authority).filter(|_| !authority.ends_with(b"]"));
    &authority[..colon.unwrap_or(authority.len())]
}

/// The length of the content as it was taken in. Empty content has one where the client said so
/// or the method is one that comes with content.
fn content_length(request: &OriginRequest) -> Option<String> {
    let bytes = request.body.bytes();
    let announced = request.fields.contains("content-length")
        || [Method::POST, Method::PUT, Method::PATCH].contains(&request.method);
    (bytes > 0 || announced).then(|| bytes.to_string())
}

/// Appends the fields as `HTTP_*`, repeats merged (RFC 3875 4.1.18). What is there already comes
/// from configuration and wins over a client's field of that name.
fn push_fields<'a>(params: &mut Params<'a>, request: &'a OriginRequest) {
    let configured = params.len();
    let length = content_length(request);
    for field in request.fields.iter().filter(|field| is_passed(&field.name)) {
        let name = variable(&field.name);
        match params.iter().position(|(known, _)| **known == *name) {
            Some(known) if known < configured || field.is("content-length") => {}
            Some(known) => {
                let merged = params[known].1.to_mut();
                merged.extend_from_slice(if field.is("cookie") { b"; " } else { b", " });
                merged.extend_from_slice(&field.value);
            }
            None => params.push((name.into(), value(field, length.as_ref()))),
        }
    }
    let is_missing = |params: &Params<'_>, name: &str| {
        params.iter().all(|(known, _)| **known != *name.as_bytes())
    };
    if let Some(length) = length
        && is_missing(params, "HTTP_CONTENT_LENGTH")
    {
        push_text(params, "HTTP_CONTENT_LENGTH", length);
    }
    if !request.authority.is_empty() && is_missing(params, "HTTP_HOST") {
        push(params, "HTTP_HOST", &request.authority);
    }
}

/// The field's value; a length is that of what was taken in.
fn value<'a>(field: &'a Field, length: Option<&String>) -> Cow<'a, [u8]> {
    match length.filter(|_| field.is("content-length")) {
        Some(length) => length.clone().into_bytes().into(),
        None => Cow::Borrowed(&field.value),
    }
}

/// Letters, digits and hyphens alone, so that no two fields become one variable, and never
/// `Proxy`, which libraries in PHP take for a setting ("httpoxy"). Framing is ours.
fn is_passed(name: &[u8]) -> bool {
    let framing = [&b"proxy"[..], b"transfer-encoding", b"connection", b"keep-alive", b"te"];
    !name.is_empty()
        && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !framing.iter().any(|refused| name.eq_ignore_ascii_case(refused))
}

fn variable(name: &[u8]) -> Vec<u8> {
    let mut variable = b"HTTP_".to_vec();
    variable.extend(name.iter().map(|byte| match byte {
        b'-' => b'_',
        other => other.to_ascii_uppercase(),
    }));
    variable
}

fn push<'a>(params: &mut Params<'a>, name: &'a str, value: &'a [u8]) {
    params.push((name.as_bytes().into(), value.into()));
}

fn push_text<'a>(params: &mut Params<'a>, name: &'a str, value: impl Into<Vec<u8>>) {
    params.push((name.as_bytes().into(), value.into().into()));
}

fn address(address: IpAddr) -> Vec<u8> {
    let mut text = Vec::with_capacity(ADDRESS_MAX_BYTES);
    write_address(&mut text, address);
    text
}
