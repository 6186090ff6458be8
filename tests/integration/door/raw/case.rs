//! The files of the corpus.

use std::path::Path;

/// What Parvis stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    Nginx,
    FastCgi,
}

/// One status of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub number: u16,
    pub head_only: bool,
}

impl Status {
    pub fn parse(text: &str) -> Self {
        let number = text.trim_end_matches('h');
        Self { number: number.parse().expect("a status"), head_only: number != text }
    }
}

/// What must come of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub statuses: Vec<Status>,
    pub stays_open: bool,
    pub origin: usize,
    pub saw: Option<String>,
}

/// A case, its bytes not expanded yet.
#[derive(Clone, Debug)]
pub struct Case {
    pub file: String,
    pub name: String,
    pub why: String,
    pub half_close: bool,
    bytes: String,
    expected: Vec<(Option<Kind>, Expected)>,
}

impl Case {
    pub fn expected(&self, kind: Kind) -> &Expected {
        let own = self.expected.iter().find(|(of, _)| *of == Some(kind));
        let own = own.or_else(|| self.expected.iter().find(|(of, _)| of.is_none()));
        &own.unwrap_or_else(|| panic!("{}: {} expects nothing", self.file, self.name)).1
    }

    /// The bytes that are sent as case `number`.
    pub fn bytes(&self, number: usize) -> Vec<u8> {
        let request =
            |path: &str| format!("GET /{path}-{number} HTTP/1.1\\r\\nHost: shop.test\\r\\n\\r\\n");
        let text = repeated(&self.bytes)
            .replace("{path}", &format!("/raw-{number}"))
            .replace("{unique}", &number.to_string())
            .replace("{next}", &request("next"))
            .replace("{smuggled}", &request("smuggled"));
        unescaped(&text)
    }
}

/// All cases of all files.
pub fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/door/raw");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|path| {
            let file = path.file_stem().expect("a name").to_string_lossy().into_owned();
            parse(&file, &std::fs::read_to_string(path).expect("text"))
        })
        .collect()
}

fn parse(file: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")) {
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').expect(line).to_owned();
            cases.push(Case {
                file: file.to_owned(),
                name,
                why: String::new(),
                half_close: false,
                bytes: String::new(),
                expected: Vec::new(),
            });
            continue;
        }
        let case = cases.last_mut().expect("a name first");
        match line.split_at_checked(2).unwrap_or((line, "")) {
            ("> " | ">", rest) => {
                case.bytes.push_str(rest);
                case.bytes.push_str("\\r\\n");
            }
            ("+ ", rest) => case.bytes.push_str(rest),
            ("| ", "half-close") => case.half_close = true,
            ("= ", rest) => case.expected.push(expected(rest)),
            _ if case.why.is_empty() => line.clone_into(&mut case.why),
            _ => panic!("{file}: {line:?}"),
        }
    }
    cases
}

fn expected(text: &str) -> (Option<Kind>, Expected) {
    let (kind, text) = match text.split_once(": ") {
        Some(("nginx", text)) => (Some(Kind::Nginx), text),
        Some(("fastcgi", text)) => (Some(Kind::FastCgi), text),
        _ => (None, text),
    };
    let (text, saw) = match text.split_once(" saw ") {
        Some((text, saw)) => (text, Some(saw.to_owned())),
        None => (text, None),
    };
    let words: Vec<&str> = text.split(' ').collect();
    let [statuses @ .., end, "origin", origin] = &words[..] else { panic!("{text:?}") };
    let statuses = statuses.iter().filter(|&&word| word != "none");
    let stays_open = match *end {
        "open" => true,
        "close" => false,
        _ => panic!("{text:?}"),
    };
    let statuses = statuses.map(|word| Status::parse(word)).collect();
    let origin = origin.parse().expect("a number");
    (kind, Expected { statuses, stays_open, origin, saw })
}

/// With `{repeat N text}` written out, inner ones first.
fn repeated(text: &str) -> String {
    const OPENING: &str = "{repeat ";
    let mut text = text.to_owned();
    while let Some(start) = text.rfind(OPENING) {
        let inner = start + OPENING.len();
        let end = inner + text[inner..].find('}').expect("a closing brace");
        let (count, what) = text[inner..end].split_once(' ').expect("a number and a text");
        let written = what.repeat(count.parse().expect("a number"));
        text.replace_range(start..=end, &written);
    }
    text
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'\\', [b'r', after @ ..]) => (b'\r', after),
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [b'x', high, low, after @ ..]) => (digit(*high) << 4 | digit(*low), after),
            (b'\\', _) => panic!("an unknown escape in {text:?}"),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

fn digit(byte: u8) -> u8 {
    (byte as char).to_digit(16).expect("a hexadecimal digit") as u8
}
