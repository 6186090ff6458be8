//! MIME types by the ending of a file's name.
//!
//! A table of our own rather than a crate: the types must be those nginx sends, so that a shop
//! which moves from it sees the same `Content-Type` on each file; crates that follow the registry
//! differ (`text/javascript`). Fonts and formats that came after nginx' table are added.

/// What a file without a known ending is.
const UNKNOWN: &str = "application/octet-stream";

/// The value of Content-Type for a file with this ending, compared without case.
pub fn content_type(extension: Option<&[u8]>) -> &'static str {
    let mut lower = [0_u8; LONGEST];
    let Some(extension) = extension else {
        return UNKNOWN;
    };
    let Some(lower) = lower.get_mut(..extension.len()) else {
        return UNKNOWN;
    };
    lower.copy_from_slice(extension);
    lower.make_ascii_lowercase();
    let found = TYPES.binary_search_by(|(ending, _)| ending.as_bytes().cmp(lower));
    found.map_or(UNKNOWN, |at| TYPES[at].1)
}

/// Is content of this type text that shrinks when compressed? Magento's sample lists the same.
pub fn is_compressible(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.starts_with("text/")
        || matches!(
            essence,
            "application/javascript"
                | "application/json"
                | "application/manifest+json"
                | "application/xml"
                | "application/rss+xml"
                | "application/atom+xml"
                | "application/xhtml+xml"
                | "application/wasm"
                | "image/svg+xml"
        )
}

/// The longest ending of the table.
const LONGEST: usize = 11;

/// Sorted by ending. `charset=UTF-8` stands where nginx' `charset` adds it by default.
const TYPES: &[(&str, &str)] = &[
    ("3gp", "video/3gpp"),
    ("3gpp", "video/3gpp"),
    ("7z", "application/x-7z-compressed"),
    ("ai", "application/postscript"),
    ("asf", "video/x-ms-asf"),
    ("asx", "video/x-ms-asf"),
    ("atom", "application/atom+xml"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("avifs", "image/avif"),
    ("bmp", "image/x-ms-bmp"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("eot", "application/vnd.ms-fontobject"),
    ("eps", "application/postscript"),
    ("flv", "video/x-flv"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htc", "text/x-component"),
    ("htm", "text/html; charset=UTF-8"),
    ("html", "text/html; charset=UTF-8"),
    ("ico", "image/x-icon"),
    ("jar", "application/java-archive"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "application/javascript; charset=UTF-8"),
    ("json", "application/json"),
    ("kml", "application/vnd.google-earth.kml+xml"),
    ("kmz", "application/vnd.google-earth.kmz"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/x-m4a"),
    ("m4v", "video/x-m4v"),
    ("map", "application/json"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("mjs", "application/javascript; charset=UTF-8"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("odg", "application/vnd.oasis.opendocument.graphics"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("ogg", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("ps", "application/postscript"),
    ("ra", "audio/x-realaudio"),
    ("rar", "application/x-rar-compressed"),
    ("rss", "application/rss+xml; charset=UTF-8"),
    ("rtf", "application/rtf"),
    ("shtml", "text/html; charset=UTF-8"),
    ("svg", "image/svg+xml"),
    ("svgz", "image/svg+xml"),
    ("swf", "application/x-shockwave-flash"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("ts", "video/mp2t"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=UTF-8"),
    ("wasm", "application/wasm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("wmv", "video/x-ms-wmv"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "text/xml; charset=UTF-8"),
    ("xspf", "application/xspf+xml"),
    ("zip", "application/zip"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_endings_are_lower_case_and_fit() {
        assert!(TYPES.is_sorted_by(|(left, _), (right, _)| left < right));
        for (ending, _) in TYPES {
            assert_eq!(*ending, ending.to_ascii_lowercase());
            assert!(ending.len() <= LONGEST);
        }
    }

    #[test]
    fn endings_are_found_in_any_case_and_the_rest_is_octets() {
        assert_eq!(content_type(Some(b"css")), "text/css");
        assert_eq!(content_type(Some(b"JS")), "application/javascript; charset=UTF-8");
        assert_eq!(content_type(Some(b"jpg")), "image/jpeg");
        assert_eq!(content_type(Some(b"webmanifest")), "application/manifest+json");
        for unknown in [None, Some(&b""[..]), Some(b"phpx"), Some(b"webmanifestx"), Some(b"\xff")] {
            assert_eq!(content_type(unknown), UNKNOWN);
        }
    }

    #[test]
    fn text_is_compressible_and_images_are_not() {
        for compressible in ["text/css", "application/javascript; charset=UTF-8", "image/svg+xml"] {
            assert!(is_compressible(compressible));
        }
        assert!(!is_compressible("image/jpeg"));
        assert!(!is_compressible(UNKNOWN));
    }
}
