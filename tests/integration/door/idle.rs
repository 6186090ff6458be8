//! What an idle connection costs.

use super::Door;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    let kilobytes = line.split_whitespace().nth(1).expect("a number");
    kilobytes.parse::<u64>().expect("a number") << 10
}

/// Run by name and alone, as other tests share the process:
/// `cargo test --test integration -- --ignored --nocapture idle_connection`
#[tokio::test]
#[ignore = "measures the memory of the whole process"]
async fn an_idle_connection_costs_less_than_four_kibibytes() {
    const CONNECTIONS: usize = 4_000;
    let door = Door::open().await;
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", "c".repeat(4_000));
    // Whatever is made once is made by the first.
    for _ in 0..10 {
        door.client().await.ask(&head).await;
    }
    let before = resident_bytes();
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut client = door.client().await;
        client.ask(&head).await;
        clients.push(client.io);
    }
    assert_eq!(door.shutdown.connections().count(), CONNECTIONS);
    let each = resident_bytes().saturating_sub(before) / CONNECTIONS as u64;
    println!("{each} bytes for each of {CONNECTIONS} idle connections, both ends of them");
    assert!(each < 4 << 10, "{each}");
}
