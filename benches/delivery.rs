//! What a hit costs between the store and the connection, and what compressing costs elsewhere.
#![expect(clippy::expect_used, reason = "a bench that cannot run may stop")]

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{Method, StatusCode};

use parvis::body::Body;
use parvis::delivery::{RequestFacts, Stored, gzip_stream, join, prepare, respond};
use parvis::esi::{Limits, split};
use parvis::exchange::StoredHead;
use parvis::fields::Fields;
use parvis::store::StoredBody;

const PAGE_BYTES: usize = 200_000;
const LIMITS: Limits =
    Limits { includes_max: 32, tag_max_bytes: 8 << 10, remove_max_bytes: 64 << 10 };

struct Page {
    head: Arc<StoredHead>,
    body: StoredBody,
}

impl Page {
    fn new(content: &Bytes) -> Self {
        let mut fields = Fields::from([
            ("Content-Type", "text/html; charset=UTF-8"),
            ("Cache-Control", "no-store, no-cache, must-revalidate, max-age=0"),
            ("Pragma", "no-cache"),
        ]);
        let mut body = split(content, LIMITS, Some(6), 1_024).body;
        prepare(&mut fields, &mut body);
        Self { head: Arc::new(StoredHead::new(fields)), body }
    }

    fn stored(&self) -> Stored<'_> {
        Stored { status: StatusCode::OK, head: &self.head, body: &self.body }
    }
}

/// Something like the HTML of a category page: a frame that repeats, names and numbers that do not.
fn html(bytes: usize, include: bool) -> Bytes {
    let mut text = String::with_capacity(bytes + 300);
    let mut number = 1_u32;
    while text.len() < bytes {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (name, price) = (number >> 8, number % 10_000);
        text += "<li class=\"item product product-item\"><a href=\"/product-";
        writeln!(text, "{name:x}.html\">Product {name}</a><span>${price}</span></li>")
            .expect("a string takes everything");
        if include && text.len() > bytes / 10 && !text.contains("<esi:") {
            text.push_str("<esi:include src=\"http://shop.test/page_cache/block/esi/\" />");
        }
    }
    text.into()
}

/// The fields of a browser's request.
fn browser(accept_encoding: &str) -> Fields {
    Fields::from([
        ("Host", "shop.test"),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("Accept-Language", "en-US,en;q=0.5"),
        ("Accept-Encoding", accept_encoding),
        ("Connection", "keep-alive"),
        ("Cookie", "form_key=0123456789abcdef; mage-cache-sessid=true"),
        ("Upgrade-Insecure-Requests", "1"),
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Mode", "navigate"),
    ])
}

fn hits(criterion: &mut Criterion) {
    let whole = Page::new(&html(PAGE_BYTES, false));
    let joined = Page::new(&html(PAGE_BYTES, true));
    let menu = Page::new(&html(20_000, false));
    let fields = browser("gzip, deflate, br, zstd");
    let request = RequestFacts { method: &Method::GET, fields: &fields, ranges_max: 4 };
    criterion.bench_function("hit/whole/gzip", |bencher| {
        bencher.iter(|| respond(black_box(whole.stored()), request, [], |_| None));
    });
    criterion.bench_function("hit/joined/gzip", |bencher| {
        bencher.iter(|| {
            let menu = join(&menu.body, []);
            respond(black_box(joined.stored()), request, [menu], |_| None)
        });
    });
    let plain = browser("identity");
    let request = RequestFacts { method: &Method::GET, fields: &plain, ranges_max: 4 };
    criterion.bench_function("hit/whole/inflated for an old client", |bencher| {
        bencher
            .iter(|| respond(black_box(whole.stored()), request, [], |piece| piece.inflate().ok()));
    });
}

fn misses(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let page = html(PAGE_BYTES, true);
    let mut group = criterion.benchmark_group("200 KB");
    group.throughput(Throughput::Bytes(page.len() as u64));
    group.bench_function("gzip_stream", |bencher| {
        bencher.iter(|| {
            let body = Body::from(page.clone());
            runtime.block_on(async { gzip_stream(body, 6, 64 << 10).collect(1 << 20).await })
        });
    });
    group.bench_function("scan for includes", |bencher| {
        bencher.iter(|| {
            let mut parser = parvis::esi::Parser::new(LIMITS);
            let mut events = Vec::new();
            parser.feed(black_box(&page), &mut events);
            parser.end(&mut events);
            events
        });
    });
    group.bench_function("split and compress for storing", |bencher| {
        bencher.iter(|| split(black_box(&page), LIMITS, Some(6), 1_024));
    });
    group.finish();
}

criterion_group!(benches, hits, misses);
criterion_main!(benches);
