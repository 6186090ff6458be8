//! A blocking HTTP/1.1 client that shows what came over the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A response as it came.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Chunks put together; not decompressed.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// All headers of that name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// The body as text, decompressed if need be.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.decoded()).into_owned()
    }

    /// The body, decompressed if need be.
    pub fn decoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.header("content-encoding").filter(|_| !self.body.is_empty()) {
            Some("gzip") => {
                let mut decoder = flate2::read::GzDecoder::new(&self.body[..]);
                decoder.read_to_end(&mut out).expect("valid gzip");
            }
            Some("br") => {
                brotli::BrotliDecompress(&mut &self.body[..], &mut out).expect("valid brotli");
            }
            Some("zstd") => {
                zstd::stream::copy_decode(&self.body[..], &mut out).expect("valid zstd");
            }
            _ => out.extend_from_slice(&self.body),
        }
        out
    }

    /// `hit`, `stale`, `miss`, ... as Cache-Status says: the words after the cache's name.
    pub fn cache_status(&self) -> &str {
        self.header("cache-status").unwrap_or("")
    }

    /// From the store.
    pub fn is_hit(&self) -> bool {
        self.cache_status().contains("; hit") && !self.is_collapsed()
    }

    /// Another's response, which was waited for, or is being stored.
    pub fn is_collapsed(&self) -> bool {
        self.cache_status().contains("detail=collapsed")
    }
}

/// A connection that is kept.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(port: u16) -> Self {
        Self::to(([127, 0, 0, 1], port).into(), Duration::from_secs(20)).expect("a listener")
    }

    /// To an address that may refuse, with the patience to wait so long for an answer.
    pub fn to(address: SocketAddr, patience: Duration) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream) })
    }

    /// Sends bytes and reads one response; an error where the connection fails.
    pub fn exchange(&mut self, request: &[u8]) -> std::io::Result<Reply> {
        self.stream.get_mut().write_all(request)?;
        self.read(false)
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("sent");
    }

    /// Sends a request; Host is `shop.test` where the headers name none.
    pub fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("Host: shop.test\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.send(&bytes);
        self.read(method == "HEAD").expect("a whole response")
    }

    /// Reads one response; an error where it is cut short.
    pub fn read(&mut self, head_only: bool) -> std::io::Result<Reply> {
        let mut reply = self.read_head()?;
        if reply.status < 200 {
            return self.read(head_only);
        }
        if head_only || reply.status == 204 || reply.status == 304 {
            return Ok(reply);
        }
        reply.body = self.read_body(&reply)?;
        Ok(reply)
    }

    /// Reads a head alone.
    pub fn read_head(&mut self) -> std::io::Result<Reply> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status =
            status.ok_or_else(|| std::io::Error::other(format!("status line {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Reply { status, headers, body: Vec::new() });
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| std::io::Error::other("a header"))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Waits for the first byte after a head.
    pub fn first_byte(&mut self) -> std::io::Result<u8> {
        let mut byte = [0; 1];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn read_body(&mut self, reply: &Reply) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if reply.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
                let at = body.len();
                body.resize(at + size, 0);
                self.stream.read_exact(&mut body[at..])?;
                if !self.line()?.is_empty() {
                    return Err(std::io::Error::other("a chunk's end"));
                }
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        if let Some(length) = reply.header("content-length") {
            body.resize(length.parse().map_err(std::io::Error::other)?, 0);
            self.stream.read_exact(&mut body)?;
        } else {
            self.stream.read_to_end(&mut body)?;
        }
        Ok(body)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).map_err(std::io::Error::other)
    }
}

/// One request on a connection of its own.
pub fn request(
    port: u16,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    Client::connect(port).ask(method, target, headers, body)
}

/// One GET on a connection of its own.
pub fn get(port: u16, target: &str, headers: &[(&str, &str)]) -> Reply {
    request(port, "GET", target, headers, b"")
}

/// Bytes in, bytes out, until the other end closes.
pub fn raw(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(port);
    client.send(bytes);
    let mut out = Vec::new();
    let _ = client.stream.read_to_end(&mut out);
    out
}
