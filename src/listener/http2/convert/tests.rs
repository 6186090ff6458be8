use super::*;

const LIMITS: HeadLimits = HeadLimits {
    request_line_max_bytes: 100,
    field_max_bytes: 100,
    head_max_bytes: 300,
    fields_max: 5,
};

fn connection() -> Connection {
    Connection { peer: crate::exchange::Peer::Unix, local: None, tls: false }
}

fn converted(request: http::request::Builder) -> Result<Request, StatusCode> {
    let (head, ()) = request.body(()).expect("valid").into_parts();
    super::request(head, Body::empty(), connection(), &LIMITS)
}

fn builder(target: &str) -> http::request::Builder {
    http::Request::builder().uri(target)
}

#[test]
fn the_authority_comes_from_the_pseudo_field_or_from_host() {
    let authority = |request| converted(request).map(|request| request.authority);
    assert_eq!(authority(builder("http://a:1/")), Ok(Bytes::from("a:1")));
    assert_eq!(authority(builder("/").header("host", "b")), Ok(Bytes::from("b")));
    assert_eq!(authority(builder("http://a/").header("host", "A")), Ok(Bytes::from("a")));
    let refused = Err(StatusCode::BAD_REQUEST);
    assert_eq!(authority(builder("http://a/").header("host", "b")), refused);
    assert_eq!(authority(builder("/").header("host", "b").header("host", "b")), refused);
    assert_eq!(authority(builder("/")), refused);
    assert_eq!(authority(builder("/").header("host", "b,c")), refused);
}

#[test]
fn cookie_crumbs_are_joined_before_fields_are_counted() {
    let mut request = builder("http://a/");
    for crumb in ["a=1", "b=2", "c=3", "d=4", "e=5", "f=6"] {
        request = request.header("cookie", crumb);
    }
    let request = request.header("x-a", "1").header("x-b", "2").header("x-c", "3");
    let fields = converted(request).expect("five fields").fields;
    let cookies: Vec<_> = fields.all("cookie").collect();
    assert_eq!(cookies, ["a=1; b=2; c=3; d=4; e=5; f=6"]);
    assert_eq!(fields.first("host"), Some(&Bytes::from("a")));
    assert_eq!(fields.len(), 5);
}

#[test]
fn sizes_are_held_within_the_limits_of_http_1() {
    let status = |request| converted(request).map(|_| ()).expect_err("too large").as_u16();
    let long = "x".repeat(101);
    assert_eq!(status(builder(&format!("http://a/{long}"))), 414);
    assert_eq!(status(builder("http://a/").header("x-a", &long)), 431);
    let mut many = builder("http://a/");
    for at in 0..5 {
        many = many.header(format!("x-{at}"), "y");
    }
    assert_eq!(status(many), 431);
    let mut wide = builder("http://a/");
    for at in 0..4 {
        wide = wide.header(format!("x-{at}"), "y".repeat(90));
    }
    assert_eq!(status(wide), 431);
}

#[test]
fn fields_of_a_connection_are_refused_in_requests_and_dropped_from_responses() {
    for name in CONNECTION_SPECIFIC {
        let refused = converted(builder("http://a/").header(name, "x"));
        assert_eq!(refused.expect_err("refused"), StatusCode::BAD_REQUEST, "{name}");
    }
    assert!(converted(builder("http://a/").header("te", "trailers")).is_ok());
    assert!(converted(builder("http://a/").header("te", "gzip")).is_err());

    let mut response = Response::text(StatusCode::OK, "x");
    for name in CONNECTION_SPECIFIC {
        response.fields.push_static(name, "x");
    }
    let head = response_head(&response, false, &Clock::system()).expect("valid");
    assert!(CONNECTION_SPECIFIC.iter().all(|name| !head.headers().contains_key(*name)));
    assert_eq!(head.headers()["content-length"], "1");
}
