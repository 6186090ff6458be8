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
