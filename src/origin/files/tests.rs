use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::body::{BodyError, Spooled};
use crate::exchange::{Client, Scheme};

/// 1795373685 is Sun, 22 Nov 2026 18:54:45 GMT, as in the recorded exchanges.
const MODIFIED_SECONDS: u64 = 1_795_373_685;
const STATIC: FileClass = FileClass { area: Area::Static, lifetime: Lifetime::Immutable };
const MEDIA: FileClass = FileClass { area: Area::Media, lifetime: Lifetime::Media };

struct Shop {
    root: TempDir,
    files: Files,
}

fn shop() -> Shop {
    shop_with(&settings::Files::default())
}

fn shop_with(settings: &settings::Files) -> Shop {
    let root = TempDir::new().expect("directory");
    fs::create_dir_all(root.path().join("media")).expect("directory");
    let place = root.path().to_owned();
    let files = Files::new(settings, place, Vec::new(), Clock::system()).expect("files");
    Shop { root, files }
}

impl Shop {
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        self.write_at(name, content, MODIFIED_SECONDS);
    }

    fn write_at(&self, name: &str, content: impl AsRef<[u8]>, modified_seconds: u64) {
        let path = self.root.path().join(name);
        fs::write(&path, content).expect("written");
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(modified_seconds);
        fs::File::options()
            .append(true)
            .open(path)
            .expect("open")
            .set_modified(time)
            .expect("time");
    }

    async fn get(
        &self,
        name: &str,
        class: FileClass,
        lines: &[(&'static str, &str)],
    ) -> OriginResponse {
        match self.files.serve(&request(Method::GET, lines), &path(name), class).await {
            Ok(Served::Response(response)) => response,
            other => panic!("{other:?}"),
        }
    }
}

fn path(name: &str) -> SafePath {
    SafePath::check(format!("/{name}").as_bytes()).expect("safe")
}

fn request(method: Method, lines: &[(&'static str, &str)]) -> OriginRequest {
    let mut fields = Fields::new();
    for (name, value) in lines {
        fields.push_static(name, (*value).to_owned());
    }
    let client = Client {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        scheme: Scheme::Http,
        server_port: 80,
        trusted_peer: false,
        forged: false,
        hops: Vec::new(),
    };
    let body = Spooled::default();
    OriginRequest {
        method,
        target: Bytes::from("/"),
        authority: Bytes::new(),
        fields,
        body,
        client,
        beside: crate::exchange::Beside::default(),
        files_alone: false,
        ticket: crate::admission::Ticket::default(),
    }
}

/// The lines as they are sent, without the one that holds the time of the test.
fn lines(response: &OriginResponse) -> Vec<(String, String)> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let lines = response.fields.iter().filter(|field| !field.is("expires"));
    lines.map(|field| (text(&field.name), text(&field.value))).collect()
}

fn expected(lines: &[(&str, &str)]) -> Vec<(String, String)> {
    lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn content(response: OriginResponse) -> Bytes {
    response.body.collect(1 << 30).await.expect("whole")
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0_u8..251).cycle().take(bytes).collect()
}

#[tokio::test]
async fn a_static_file_has_the_recorded_head() {
    let shop = shop();
    shop.write("calendar.css", pattern(6_316));
    let response = shop.get("calendar.css", STATIC, &[]).await;
    assert_eq!(response.status, StatusCode::OK);
    let expires = response.fields.first_str("expires").expect("expires");
    let year = httpdate::parse_http_date(expires).expect("date");
    let ahead = year.duration_since(Clock::system().wall()).expect("in the future");
    assert!((364 * 86_400..=365 * 86_400).contains(&ahead.as_secs()));
    let head = [
        ("Content-Type", "text/css"),
        ("Content-Length", "6316"),
        ("Last-Modified", "Sun, 22 Nov 2026 18:54:45 GMT"),
        ("Vary", "Accept-Encoding"),
        ("ETag", "\"6b033a75-18ac\""),
        ("Cache-Control", "public, max-age=31536000, immutable"),
        ("X-Frame-Options", "SAMEORIGIN"),
        ("Accept-Ranges", "bytes"),
    ];
    assert_eq!(lines(&response), expected(&head));
    assert_eq!(content(response).await, pattern(6_316));
}

#[tokio::test]
async fn each_class_of_file_tells_caches_its_own() {
    let shop = shop();
    shop.write("a.jpg", "x");
    let table = [
        (Area::Media, Lifetime::Media, Some("public, max-age=31536000"), true),
        (Area::Static, Lifetime::Static, Some("public, max-age=31536000"), true),
        (Area::Media, Lifetime::NoStore, Some("no-store"), true),
        (Area::Static, Lifetime::Unspecified, None, true),
        (Area::Page, Lifetime::Unspecified, None, false),
        (Area::Errors, Lifetime::Unspecified, None, false),
    ];
    for (area, lifetime, cache_control, is_framed) in table {
        let fields = shop.get("a.jpg", FileClass { area, lifetime }, &[]).await.fields;
        assert_eq!(fields.first_str("cache-control"), cache_control, "{area:?} {lifetime:?}");
        assert_eq!(fields.contains("x-frame-options"), is_framed, "{area:?} {lifetime:?}");
        let is_dated = cache_control.is_some_and(|value| value != "no-store");
        assert_eq!(fields.contains("expires"), is_dated, "{area:?} {lifetime:?}");
        assert_eq!(fields.first_str("content-type"), Some("image/jpeg"));
        assert!(!fields.contains("vary"));
    }
}

#[tokio::test]
async fn head_has_the_length_and_no_content() {
    let shop = shop();
    shop.write("a.js", pattern(300_000));
    let head = request(Method::HEAD, &[("Range", "bytes=0-1")]);
    let Ok(Served::Response(response)) = shop.files.serve(&head, &path("a.js"), STATIC).await
    else {
        panic!("a response");
    };
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.fields.first_str("content-length"), Some("300000"));
    assert!(response.body.is_empty());
}

#[tokio::test]
async fn other_methods_are_not_allowed_on_a_file_and_nothing_without_one() {
    let shop = shop();
    shop.write("a.js", "x");
    let post = request(Method::POST, &[]);
    let Ok(Served::Response(response)) = shop.files.serve(&post, &path("a.js"), STATIC).await
    else {
        panic!("a response");
    };
    assert_eq!(response.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.fields.first_str("allow"), Some("GET, HEAD"));
    let missing = shop.files.serve(&post, &path("b.js"), STATIC).await;
    assert!(matches!(missing, Ok(Served::Missing)));
}

#[tokio::test]
async fn conditions_are_answered_without_content() {
    let shop = shop();
    shop.write("a.js", "content");
    let tag = "\"6b033a75-7\"";
    let response = shop.get("a.js", STATIC, &[("If-None-Match", tag)]).await;
    assert_eq!(response.status, StatusCode::NOT_MODIFIED);
    assert_eq!(response.fields.first_str("etag"), Some(tag));
    assert!(response.fields.contains("cache-control") && response.fields.contains("vary"));
    assert!(!response.fields.contains("content-length") && response.body.is_empty());
    let response = shop.get("a.js", STATIC, &[("If-Match", "\"other\"")]).await;
    assert_eq!(response.status, StatusCode::PRECONDITION_FAILED);
    assert!(response.body.is_empty());
}

#[tokio::test]
async fn a_range_is_a_part_and_one_past_the_end_is_416() {
    let shop = shop();
    shop.write("calendar.css", pattern(6_316));
    let response = shop.get("calendar.css", STATIC, &[("Range", "bytes=0-99")]).await;
    assert_eq!(response.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(response.fields.first_str("content-length"), Some("100"));
    assert_eq!(response.fields.first_str("content-range"), Some("bytes 0-99/6316"));
    assert!(!response.fields.contains("accept-ranges"));
    assert_eq!(content(response).await, pattern(100));
    let response = shop.get("calendar.css", STATIC, &[("Range", "bytes=6316-")]).await;
    assert_eq!(response.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(response.fields.first_str("content-range"), Some("bytes */6316"));
}

#[tokio::test]
async fn a_large_file_and_a_large_part_of_it_arrive_whole() {
    let shop = shop();
    let all = pattern(1_000_003);
    shop.write("a.mp4", &all);
    let response = shop.get("a.mp4", MEDIA, &[]).await;
    assert_eq!(response.body.len(), Some(1_000_003));
    assert_eq!(content(response).await, all);
    let response = shop.get("a.mp4", MEDIA, &[("Range", "bytes=100001-900000")]).await;
    assert_eq!(response.body.len(), Some(800_000));
    assert_eq!(content(response).await, all[100_001..=900_000]);
    for bytes in [0, 1, (256 << 10) - 1, 256 << 10, (256 << 10) + 1] {
        shop.write("b.mp4", pattern(bytes));
        assert_eq!(content(shop.get("b.mp4", MEDIA, &[]).await).await, pattern(bytes));
    }
}

#[tokio::test]
async fn a_precompressed_neighbour_has_its_own_entity_tag() {
    let shop = shop();
    shop.write("a.css", "identity");
    shop.write("a.css.gz", "gzip");
    let neighbour = |response: &OriginResponse| {
        let field = |name| response.fields.first_str(name).map(ToOwned::to_owned);
        (field("content-encoding"), field("etag").expect("tag"), field("content-type"))
    };
    let css = Some("text/css".to_owned());
    let both = [("Accept-Encoding", "gzip, br")];
    let response = shop.get("a.css", STATIC, &both).await;
    let tag = "\"6b033a75-4-gzip\"".to_owned();
    assert_eq!(neighbour(&response), (Some("gzip".to_owned()), tag, css.clone()));
    assert_eq!(response.fields.first_str("vary"), Some("Accept-Encoding"));
    assert_eq!(content(response).await, "gzip");
    shop.write("a.css.br", "br");
    let response = shop.get("a.css", STATIC, &both).await;
    assert_eq!(neighbour(&response).0.as_deref(), Some("br"));
    assert_eq!(content(response).await, "br");
    let response = shop.get("a.css", STATIC, &[]).await;
    assert_eq!(neighbour(&response), (None, "\"6b033a75-8\"".to_owned(), css));
    assert_eq!(response.fields.first_str("vary"), Some("Accept-Encoding"));
    assert_eq!(content(response).await, "identity");
}

#[tokio::test]
async fn a_neighbour_that_is_older_or_alone_or_switched_off_is_left() {
    let shop = shop();
    let gzip = [("Accept-Encoding", "gzip")];
    shop.write("a.css", "identity");
    shop.write_at("a.css.gz", "of the last version", MODIFIED_SECONDS - 1);
    assert_eq!(content(shop.get("a.css", STATIC, &gzip).await).await, "identity");
    shop.write("b.css.gz", "alone");
    let alone = shop.files.serve(&request(Method::GET, &gzip), &path("b.css"), STATIC).await;
    assert!(matches!(alone, Ok(Served::Missing)));
    let off = shop_with(&settings::Files { precompressed: false, ..settings::Files::default() });
    off.write("a.css", "identity");
    off.write("a.css.gz", "gzip");
    assert_eq!(content(off.get("a.css", STATIC, &gzip).await).await, "identity");
}

#[tokio::test]
async fn a_file_that_shrinks_or_changes_while_it_is_served_breaks_the_message() {
    let shop = shop();
    let at = |name: &str| shop.root.path().join(name);
    for name in ["shrinks.mp4", "changes.mp4", "is-removed.mp4"] {
        shop.write(name, pattern(1_000_000));
    }
    let shrinks = shop.get("shrinks.mp4", MEDIA, &[]).await;
    fs::File::options().write(true).open(at("shrinks.mp4")).expect("open").set_len(9).expect("cut");
    assert_eq!(shrinks.body.collect(1 << 30).await, Err(BodyError::Truncated));
    let changes = shop.get("changes.mp4", MEDIA, &[]).await;
    shop.write_at("changes.mp4", vec![0; 1_000_000], MODIFIED_SECONDS + 5);
    assert_eq!(changes.body.collect(1 << 30).await, Err(BodyError::Truncated));
    // What is open stays what it was when its name goes to another file, as deployments do it.
    let removed = shop.get("is-removed.mp4", MEDIA, &[]).await;
    shop.write("new.mp4", "new");
    fs::rename(at("new.mp4"), at("is-removed.mp4")).expect("renamed");
    assert_eq!(content(removed).await, pattern(1_000_000));
}

#[tokio::test]
async fn what_a_client_does_not_take_is_not_read() {
    let settings = settings::Files { threads: 1, ..settings::Files::default() };
    let shop = shop_with(&settings);
    shop.write("a.mp4", pattern(4 << 20));
    shop.write("b.mp4", "b");
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(shop.get("a.mp4", MEDIA, &[]).await);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let in_memory = settings::Files::default().memory_max_bytes - shop.files.budget.free_bytes();
    assert!(in_memory <= held.len() * 2 * PIECE_BYTES, "{in_memory}");
    // The one thread is free.
    assert_eq!(content(shop.get("b.mp4", MEDIA, &[]).await).await, "b");
    drop(held);
}

#[tokio::test]
async fn slow_clients_that_hold_all_memory_make_others_wait_then_refuse_them() {
    let settings = settings::Files {
        deadline: Duration::from_millis(50),
        memory_max_bytes: 256 << 10,
        ..settings::Files::default()
    };
    let shop = shop_with(&settings);
    shop.write("a.jpg", pattern(256 << 10));
    let slow = shop.get("a.jpg", MEDIA, &[]).await;
    let get = request(Method::GET, &[]);
    let refused = shop.files.serve(&get, &path("a.jpg"), MEDIA).await;
    assert!(matches!(refused, Err(FileError::NoMemory { memory_max_bytes: 262_144 })));
    assert_eq!(shop.files.counts().refused, 1);
    drop(slow);
    assert_eq!(content(shop.get("a.jpg", MEDIA, &[]).await).await, pattern(256 << 10));
}

/// Holds every thread of a lane, as a file system that hangs does.
struct Hang {
    _releases: Vec<mpsc::Sender<()>>,
}

impl Hang {
    async fn of(lane: &Arc<Lane>, threads: usize) -> Self {
        let mut releases = Vec::new();
        for _ in 0..threads {
            let (release, held) = mpsc::channel::<()>();
            let lane = Arc::clone(lane);
            tokio::spawn(async move { lane.run(move || held.recv()).await });
            releases.push(release);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Self { _releases: releases }
    }
}

fn impatient() -> settings::Files {
    settings::Files {
        threads: 2,
        queue_max: 4,
        deadline: Duration::from_millis(500),
        page_deadline: Duration::from_millis(200),
        ..settings::Files::default()
    }
}

#[tokio::test]
async fn media_that_hangs_gets_504_in_time_and_pages_and_static_files_go_on() {
    let shop = shop_with(&impatient());
    shop.write("media/a.jpg", "image");
    shop.write("a.css", "style");
    shop.write("robots.txt", "robots");
    let get = request(Method::GET, &[]);
    let hang = Hang::of(&shop.files.media, 2).await;
    let image = path("media/a.jpg");
    let served = shop.files.serve(&get, &image, MEDIA);
    let served = tokio::time::timeout(Duration::from_secs(5), served).await.expect("in time");
    let error = served.expect_err("the file system hangs");
    assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(shop.files.counts().timed_out, 1);
    assert_eq!(content(shop.get("a.css", STATIC, &[]).await).await, "style");
    let page = shop.files.serve_page(&get, &path("robots.txt")).await;
    assert!(matches!(page, Ok(Served::Response(_))));
    drop(hang);
    assert_eq!(content(shop.get("media/a.jpg", MEDIA, &[]).await).await, "image");
}

#[tokio::test]
async fn a_page_goes_on_to_php_when_its_file_system_hangs() {
    let shop = shop_with(&impatient());
    shop.write("robots.txt", "robots");
    let get = request(Method::GET, &[]);
    let hang = Hang::of(&shop.files.pages, 2).await;
    let robots = path("robots.txt");
    for _ in 0..10 {
        let page = shop.files.serve_page(&get, &robots);
        let page = tokio::time::timeout(Duration::from_secs(5), page).await.expect("in time");
        assert!(matches!(page, Ok(Served::Missing)), "{page:?}");
    }
    assert_eq!(shop.files.counts().pages_unknown, 10);
    drop(hang);
    // What piled up is skipped, so the very next page knows again.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let page = shop.files.serve_page(&get, &path("robots.txt")).await;
    assert!(matches!(page, Ok(Served::Response(_))));
}

#[tokio::test]
async fn without_a_lane_of_its_own_media_that_hangs_takes_static_files_along() {
    let mut shop = shop_with(&impatient());
    shop.files.statics = Arc::clone(&shop.files.media);
    shop.write("a.css", "style");
    let _hang = Hang::of(&shop.files.media, 2).await;
    let served = shop.files.serve(&request(Method::GET, &[]), &path("a.css"), STATIC).await;
    assert!(matches!(served, Err(FileError::TimedOut)));
}

#[tokio::test]
async fn a_page_is_a_file_only_for_get_and_head() {
    let shop = shop();
    shop.write("robots.txt", "robots");
    for (method, is_file) in [(Method::GET, true), (Method::HEAD, true), (Method::POST, false)] {
        let served = shop.files.serve_page(&request(method, &[]), &path("robots.txt")).await;
        assert_eq!(matches!(served, Ok(Served::Response(_))), is_file);
    }
    let missing = shop.files.serve_page(&request(Method::GET, &[]), &path("none.html")).await;
    assert!(matches!(missing, Ok(Served::Missing)));
}

#[tokio::test]
async fn directories_and_links_out_are_missing() {
    let shop = shop();
    let elsewhere = TempDir::new().expect("directory");
    fs::write(elsewhere.path().join("env.php"), "secret").expect("written");
    symlink(elsewhere.path(), shop.root.path().join("out")).expect("link");
    symlink(elsewhere.path().join("env.php"), shop.root.path().join("media/a.css.gz"))
        .expect("link");
    shop.write("media/a.css", "style");
    let gzip = request(Method::GET, &[("Accept-Encoding", "gzip")]);
    for name in ["media", "media/", "out/env.php", "none"] {
        let served = shop.files.serve(&gzip, &path(name), MEDIA).await;
        assert!(matches!(served, Ok(Served::Missing)), "{name}");
    }
    let style = shop.get("media/a.css", MEDIA, &[("Accept-Encoding", "gzip")]).await;
    assert_eq!(content(style).await, "style");
}

#[test]
fn a_root_that_is_not_there_is_an_error_with_its_name() {
    let settings = settings::Files::default();
    let root = PathBuf::from("/nowhere/pub");
    let error = Files::new(&settings, root, Vec::new(), Clock::manual()).expect_err("no root");
    assert!(error.to_string().starts_with("/nowhere/pub cannot be opened as a directory"));
}

#[tokio::test]
async fn times_that_no_http_date_can_name_do_no_harm() {
    let longest = Duration::from_secs(u64::MAX / 4);
    let settings = settings::Files { static_max_age: longest, ..settings::Files::default() };
    let shop = shop_with(&settings);
    shop.write_at("a.css", "x", 0);
    let response = shop.get("a.css", STATIC, &[]).await;
    let epoch = "Thu, 01 Jan 1970 00:00:00 GMT";
    assert_eq!(response.fields.first_str("last-modified"), Some(epoch));
    assert!(!response.fields.contains("expires"));
}
