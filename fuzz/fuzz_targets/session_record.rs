//! Session records of any bytes: reading ends within its bounds, and the ways to pack agree.
//!
//! The first byte chooses how the rest is packed: 0 to 4 pack it here, anything else leaves it as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parvis::sessions::record::{Bounds, read};

fn packed(how: u8, content: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match how {
        0 => {
            out.extend_from_slice(b":l4:");
            out.extend_from_slice(&u32::try_from(content.len()).ok()?.to_le_bytes());
            out.extend_from_slice(&lz4_flex::block::compress(content));
        }
        1 => {
            out.extend_from_slice(b":sn:");
            out.extend_from_slice(&snap::raw::Encoder::new().compress_vec(content).ok()?);
        }
        2 => {
            out.extend_from_slice(b":lz:");
            for run in content.chunks(32) {
                out.push(u8::try_from(run.len() - 1).ok()?);
                out.extend_from_slice(run);
            }
        }
        _ => return None,
    }
    Some(out)
}

fuzz_target!(|data: &[u8]| {
    let Some((&how, content)) = data.split_first() else { return };
    let bounds = Bounds { ratio_max: 1_000, ..Bounds::default() };
    let plain = read(content, &bounds);
    let small = Bounds { content_max_bytes: 64, depth_max: 2, values_max: 10, ..bounds };
    if let Ok(record) = read(content, &small) {
        assert_eq!(plain, Ok(record), "smaller bounds refuse, and say nothing else");
    }
    // What has a mark already would be unpacked once more.
    let is_marked = content.first() == Some(&b':') && content.get(3) == Some(&b':');
    if !is_marked && let Some(packed) = packed(how, content) {
        assert_eq!(read(&packed, &bounds), plain);
    }
});
