//! The field of a form that names an account, in content of any bytes.
//!
//! The first byte chooses the content's type; the rest is the content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parvis::traffic::forms::{CONTENT_MAX_BYTES, Named, account};

const FIELD: &str = "login[username]";
const TYPES: [&str; 4] = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=a",
    "application/json",
    "text/plain",
];

fn of(content_type: &str, content: &[u8]) -> Named {
    account(FIELD, Some(content_type.as_bytes()), content)
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, content)) = data.split_first() else { return };
    let kind = usize::from(*kind) % TYPES.len();
    match of(TYPES[kind], content) {
        Named::Account(account) => {
            assert_eq!(account, account.trim().to_ascii_lowercase());
            assert!(!account.is_empty() && account.len() <= content.len());
            assert!(account.bytes().all(|byte| (b' '..0x7f).contains(&byte)));
            assert!(content.len() <= CONTENT_MAX_BYTES);
        }
        Named::Nobody => assert!(content.is_empty() || kind < 3),
        Named::Unreadable => {}
    }
    // Whatever stands before it: the last value is the one that PHP has, or nobody's word is taken for it.
    let behind = match kind {
        0 => [content, b"&login%5Busername%5D=Jane"].concat(),
        1 => {
            let Some(begin) = content.strip_suffix(b"--a--") else { return };
            // Within a line it is no delimiter.
            if !begin.is_empty() && !begin.ends_with(b"\r\n") {
                return;
            }
            let part = b"--a\r\nContent-Disposition: form-data; name=\"login[username]\"\r\n\r\nJane\r\n--a--";
            [begin, part].concat()
        }
        _ => return,
    };
    match of(TYPES[kind], &behind) {
        Named::Account(account) => assert_eq!(account, "jane"),
        Named::Nobody => panic!("the field is there"),
        Named::Unreadable => {}
    }
});
