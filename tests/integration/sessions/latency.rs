//! What the way through Parvis adds to a command. By hand, on a quiet machine, with a release build:
//!
//! `PARVIS_BINARY=target/release/parvis cargo test --test integration sessions::latency -- --ignored --nocapture`

use std::time::{Duration, Instant};

use super::{Client, node, packed};
use crate::support::redis::Redis;

const ROUNDS: usize = 20_000;
/// `USER_HZ`, which Linux shows times of processes in.
const TICKS_PER_SECOND: u64 = 100;

/// The time that a process has computed.
fn computed(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

fn at(sorted: &[Duration], per_mille: usize) -> Duration {
    sorted[(sorted.len() - 1) * per_mille / 1_000]
}

#[test]
#[ignore = "it measures, by hand"]
fn what_the_way_through_adds() {
    let redis = Redis::start();
    let (node, port) = node(&redis.url(), |builder| builder);
    let (mut direct, mut through) = (Client::connect(redis.port), Client::connect(port));
    for client in [&mut direct, &mut through] {
        client.ask("SELECT 2");
    }
    through.send(&packed(&format!("HSET sess_a data {}", "x".repeat(4_000))));
    through.reply().expect("stored");
    let command = packed("HMGET sess_a data writes");
    let one = |client: &mut Client| {
        let began = Instant::now();
        client.send(&command);
        client.reply().expect("a reply");
        began.elapsed()
    };
    for _ in 0..1_000 {
        one(&mut direct);
        one(&mut through);
    }
    let before = computed(node.process.id());
    // By turns, so that whatever else this machine does meets both.
    let (mut straight, mut around): (Vec<_>, Vec<_>) =
        (0..ROUNDS).map(|_| (one(&mut direct), one(&mut through))).unzip();
    let spent = computed(node.process.id()).saturating_sub(before);
    straight.sort_unstable();
    around.sort_unstable();
    for per_mille in [500, 900, 990, 999] {
        let (straight, around) = (at(&straight, per_mille), at(&around, per_mille));
        let added = around.saturating_sub(straight);
        println!(
            "{per_mille} of 1000: straight {straight:.0?}, through Parvis {around:.0?}, added {added:.0?}"
        );
    }
    println!("CPU of Parvis: {:.1?} a command", spent / u32::try_from(ROUNDS).expect("small"));
    let pipeline: Vec<u8> = (0..100).flat_map(|_| command.to_vec()).collect();
    for (name, client) in [("straight", &mut direct), ("through Parvis", &mut through)] {
        let (began, before) = (Instant::now(), computed(node.process.id()));
        for _ in 0..200 {
            client.send(&pipeline);
            (0..100).for_each(|_| drop(client.reply().expect("a reply")));
        }
        let spent = computed(node.process.id()).saturating_sub(before);
        let each = began.elapsed() / 20_000;
        println!(
            "in pipelines of 100, {name}: {each:.2?} a command, CPU of Parvis {:.2?}",
            spent / 20_000
        );
    }
}
