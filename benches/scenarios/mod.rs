//! What is measured: each scenario is prepared once and then repeated. The benches that count
//! instructions and those that take the time repeat the same ones.

#![expect(clippy::expect_used, reason = "a bench that cannot run may stop")]

mod misses;
mod passes;
mod pieces;
mod shop;
pub mod stored;
mod visit;

/// One repetition. It fails loudly where it does not do what its name says.
pub type Operation = Box<dyn FnMut()>;

/// Something that is measured.
pub struct Scenario {
    /// Its name, also in the baseline.
    pub name: &'static str,
    /// Repetitions over which instructions are counted.
    pub rounds: u32,
    /// Makes everything ready for repetitions.
    pub prepare: fn() -> Operation,
}

/// All of them, whole hits and passes first.
pub const ALL: &[Scenario] = &[
    Scenario { name: "hit_page_gzip", rounds: 2_000, prepare: visit::page_gzip },
    Scenario {
        name: "hit_page_with_menu_gzip",
        rounds: 2_000,
        prepare: visit::page_with_menu_gzip,
    },
    Scenario { name: "hit_page_without_rules", rounds: 2_000, prepare: visit::page_without_rules },
    Scenario {
        name: "hit_page_with_100_rules",
        rounds: 2_000,
        prepare: visit::page_with_100_rules,
    },
    Scenario { name: "hit_page_not_modified", rounds: 2_000, prepare: visit::page_not_modified },
    Scenario { name: "hit_file_1_kib", rounds: 2_000, prepare: visit::file_1_kib },
    Scenario { name: "pass_http", rounds: 1_000, prepare: passes::pass_http },
    Scenario { name: "pass_fastcgi", rounds: 1_000, prepare: passes::pass_fastcgi },
    Scenario { name: "http1_head", rounds: 4_000, prepare: pieces::http1_head },
    Scenario { name: "policy_plan", rounds: 4_000, prepare: pieces::policy_plan },
    Scenario { name: "policy_plan_of_query", rounds: 4_000, prepare: pieces::policy_plan_of_query },
    Scenario { name: "look_up", rounds: 20_000, prepare: pieces::look_up },
    Scenario { name: "deliver_gzip", rounds: 4_000, prepare: pieces::deliver_gzip },
    Scenario { name: "deliver_identity", rounds: 40, prepare: pieces::deliver_identity },
    Scenario { name: "deliver_not_modified", rounds: 4_000, prepare: pieces::deliver_not_modified },
    Scenario { name: "join_esi", rounds: 4_000, prepare: pieces::join_esi },
    Scenario { name: "store_10_and_purge_tag", rounds: 400, prepare: pieces::store_and_purge },
    Scenario { name: "scan_for_includes", rounds: 4, prepare: misses::scan_for_includes },
    Scenario { name: "split_and_compress", rounds: 4, prepare: misses::split_and_compress },
    Scenario { name: "gzip_stream", rounds: 4, prepare: misses::gzip_stream_of_page },
];
