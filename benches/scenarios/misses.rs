//! What is done with a page once, when it comes from the origin.

use std::hint::black_box;

use bytes::Bytes;
use parvis::body::Body;
use parvis::delivery::gzip_stream;
use parvis::esi::{Parser, split};

use super::Operation;
use super::pieces::ESI_LIMITS;
use super::shop::{PAGE_BYTES, html};

pub fn gzip_stream_of_page() -> Operation {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let page = page();
    Box::new(move || {
        let body = Body::from(page.clone());
        let compressed =
            runtime.block_on(async { gzip_stream(body, 6, 64 << 10).collect(1 << 20).await });
        black_box(compressed).expect("it fits");
    })
}

pub fn scan_for_includes() -> Operation {
    let page = page();
    Box::new(move || {
        let mut parser = Parser::new(ESI_LIMITS);
        let mut events = Vec::new();
        parser.feed(black_box(&page), &mut events);
        parser.end(&mut events);
        black_box(events);
    })
}

pub fn split_and_compress() -> Operation {
    let page = page();
    Box::new(move || {
        black_box(split(black_box(&page), ESI_LIMITS, Some(6), 1_024));
    })
}

fn page() -> Bytes {
    Bytes::from(html(PAGE_BYTES, true))
}
