//! A stored response from any bytes: reading takes no more memory than there are bytes, and gives nothing
//! but what is written again as the same bytes.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use parvis::snapshot::record;

fuzz_target!(|content: &[u8]| {
    let Ok(response) = record::read(Bytes::copy_from_slice(content)) else { return };
    let mut again = Vec::new();
    record::write(&response, &mut again).expect("it was read from fewer bytes");
    assert_eq!(again, content);
});
