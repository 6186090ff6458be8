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

fn converted(request: http::request::Builder) -> Result<Request, Refused> {
    let (head, ()) = request.body(()).expect("valid").into_parts();
    super::request(&head, Body::empty(), connection(), &LIMITS)
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
    let host =
        |hosts: &[&str]| hosts.iter().fold(builder("/"), |to, host| to.header("host", *host));
    assert_eq!(authority(builder("http://a/").header("host", "b")), Err(Refused::HostMismatch));
    assert_eq!(authority(host(&["b", "b"])), Err(Refused::HostRepeated));
    assert_eq!(authority(host(&[])), Err(Refused::HostMissing));
    assert_eq!(authority(host(&["b,c"])), Err(Refused::HostMalformed));
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
    let refused = |request| converted(request).map(|_| ()).expect_err("too large");
    let long = "x".repeat(101);
    assert_eq!(refused(builder(&format!("http://a/{long}"))), Refused::RequestLineTooLong);
    assert_eq!(refused(builder("http://a/").header("x-a", &long)), Refused::FieldTooLong);
    let mut many = builder("http://a/");
    for at in 0..5 {
        many = many.header(format!("x-{at}"), "y");
    }
    assert_eq!(refused(many), Refused::TooManyFields);
    let mut wide = builder("http://a/");
    for at in 0..4 {
        wide = wide.header(format!("x-{at}"), "y".repeat(90));
    }
    assert_eq!(refused(wide), Refused::HeadTooLong);
}

#[test]
fn fields_of_a_connection_are_refused_in_requests_and_dropped_from_responses() {
    for name in CONNECTION_SPECIFIC {
        let refused = converted(builder("http://a/").header(name, "x"));
        assert_eq!(refused.expect_err("refused"), Refused::ConnectionSpecific, "{name}");
    }
    assert!(converted(builder("http://a/").header("te", "trailers")).is_ok());
    assert!(converted(builder("http://a/").header("te", "gzip")).is_err());

    let mut response = Response::text(StatusCode::OK, "x");
    for name in CONNECTION_SPECIFIC {
        response.fields.push_static(name, "x");
    }
    response.fields.push_static("TE", "gzip");
    let head = response_head(&response, false, &Clock::system()).expect("valid");
    assert!(CONNECTION_SPECIFIC.iter().all(|name| !head.headers().contains_key(*name)));
    assert!(!head.headers().contains_key("te"));
    assert_eq!(head.headers()["content-length"], "1");
}
