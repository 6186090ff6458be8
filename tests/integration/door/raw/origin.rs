//! An origin that keeps its connections and counts each request that it can make out on them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Fields that it tells of, where it got them.
const TELLS: [&str; 14] = [
    "x-trace",
    "x-other",
    "cookie",
    "authorization",
    "x-magento-vary",
    "content-type",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "proxy-authorization",
    "proxy",
    "upgrade",
    "x-original-url",
];

/// Its threads end with the process.
pub struct CountingOrigin {
    pub port: u16,
    count: Arc<AtomicUsize>,
}

impl CountingOrigin {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || serve(&stream, &counter));
            }
        });
        Self { port, count }
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// What cannot be made out counts as a request too, and ends the connection.
fn serve(stream: &TcpStream, count: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    while let Some(line) = read_line(&mut reader) {
        count.fetch_add(1, Ordering::SeqCst);
        let Some(fields) = read_fields(&mut reader) else { return };
        let value = |name: &str| {
            fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        let length = value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut content = vec![0; length];
        if reader.read_exact(&mut content).is_err() {
            return;
        }
        let mut saw: Vec<&str> = TELLS.into_iter().filter(|&name| value(name).is_some()).collect();
        if value("x-forwarded-for").is_none() {
            saw.push("no x-forwarded-for");
        }
        let saw = if saw.is_empty() { "-".to_owned() } else { saw.join(" ") };
        let Some((start, _version)) = line.rsplit_once(' ') else { return };
        let kept = if line.starts_with("GET ") { "public, s-maxage=600" } else { "no-store" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Magento-Tags: t\r\nX-Saw: {saw}\r\n\
             Cache-Control: {kept}\r\nContent-Length: {}\r\n\r\n",
            start.len()
        );
        let content = if line.starts_with("HEAD ") { "" } else { start };
        let mut out = stream;
        if out.write_all([head.as_bytes(), content.as_bytes()].concat().as_slice()).is_err() {
            return;
        }
    }
}

fn read_fields(reader: &mut BufReader<&TcpStream>) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Some(fields);
        }
        let (name, value) = line.split_once(':')?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_line(reader: &mut BufReader<&TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line).ok()? == 0 {
        return None;
    }
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}
