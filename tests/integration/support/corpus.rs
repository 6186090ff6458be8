//! The recorded traffic under `tests/corpus/`.

use serde_json::Value;

/// A recorded exchange.
pub struct Exchange {
    pub name: String,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub status: u16,
    pub response_headers: Vec<(String, String)>,
    /// The decoded length and the include tags with their offsets.
    pub body_bytes: usize,
    pub esi: Vec<(usize, String)>,
    pub varnish_second: String,
    pub varnish_cache_control: String,
}

/// The exchanges of `http.jsonl`.
pub fn exchanges() -> Vec<Exchange> {
    lines("http.jsonl").iter().map(exchange).collect()
}

/// The recorded purges: what caused each, and its bytes.
pub fn purges() -> Vec<(String, String)> {
    lines("purges.jsonl").iter().map(|line| (text(&line["event"]), text(&line["raw"]))).collect()
}

/// A recorded connection of the session handler.
pub struct Connection {
    /// The client's commands; what is long is an object with its length.
    pub commands: Vec<Value>,
    pub client: Vec<u8>,
    pub server: Vec<u8>,
    /// In their order: whether the client sent it, and how many bytes.
    pub chunks: Vec<(bool, usize)>,
}

impl Connection {
    /// The session as the client wrote it, empty where it did not.
    pub fn written(&self) -> &[u8] {
        let name = b"\r\n$4\r\ndata\r\n$";
        let Some(at) = self.client.windows(name.len()).rposition(|part| part == name) else {
            return b"";
        };
        let bulk = &self.client[at + name.len()..];
        let end = bulk.iter().position(|byte| *byte == b'\r').expect("a length");
        let bytes = std::str::from_utf8(&bulk[..end]).expect("digits").parse();
        bytes.map_or(b"", |bytes: usize| &bulk[end + 2..end + 2 + bytes])
    }
}

/// The connections of `sessions/NAME.jsonl`.
pub fn connections(name: &str) -> Vec<Connection> {
    lines(&format!("sessions/{name}.jsonl")).iter().map(connection).collect()
}

fn connection(line: &Value) -> Connection {
    let chunks = line["chunks"]["chunks"].as_array().expect("chunks").iter();
    let bytes = |chunk: &Value| usize::try_from(chunk[2].as_u64().expect("bytes")).expect("small");
    Connection {
        commands: line["commands"].as_array().expect("commands").clone(),
        client: unbase64(&line["raw_client_b64"]),
        server: unbase64(&line["raw_server_b64"]),
        chunks: chunks.map(|chunk| (chunk[1] == "c", bytes(chunk))).collect(),
    }
}

fn unbase64(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("base64").trim_end_matches('=');
    let (mut bits, mut held, mut bytes) = (0u32, 0, Vec::with_capacity(text.len()));
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).expect("a byte"));
        }
    }
    bytes
}

fn lines(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/corpus/{file}", env!("CARGO_MANIFEST_DIR"));
    let all = std::fs::read_to_string(&path).expect("the corpus is in the repository");
    all.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn exchange(line: &Value) -> Exchange {
    let (request, response, varnish) = (&line["request"], &line["response"], &line["varnish"]);
    Exchange {
        name: text(&line["name"]),
        method: text(&request["method"]),
        target: text(&request["target"]),
        headers: pairs(&request["headers"]),
        body: request["body"].as_str().unwrap_or("").as_bytes().to_vec(),
        status: u16::try_from(response["status"].as_u64().expect("a status")).expect("small"),
        response_headers: pairs(&response["headers"]),
        body_bytes: usize::try_from(response["decoded_body_bytes"].as_u64().unwrap_or(0))
            .expect("small"),
        esi: response["esi"]
            .as_array()
            .map(|all| {
                all.iter()
                    .map(|e| {
                        (
                            usize::try_from(e["offset"].as_u64().expect("offset")).expect("small"),
                            text(&e["tag"]),
                        )
                    })
                    .collect()
            })
            .unwrap_or_default(),
        varnish_second: text(&varnish["second"]),
        varnish_cache_control: text(&varnish["cache_control_to_client"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    let lines = value.as_array().into_iter().flatten();
    lines.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}
