//! How many requests are in PHP at once.

use super::*;

const CHILDREN: usize = 12;

fn limit(parvis: &Parvis) -> f64 {
    parvis.metric("parvis_admission_limit ").expect("shown")
}

#[test]
fn where_requests_stand_in_each_others_way_fewer_are_in_php_at_once() {
    let php = Php::with_front_controller("database.php", CHILDREN);
    let parvis = before(&php, CHILDREN).start();
    // What they wait for does one after the other.
    let clients = Clients::start(&parvis, 24, "/customer/x?alone=15");
    wait_until("a lower limit", Duration::from_secs(60), || limit(&parvis) <= 4.0);
    let [good, ..] = clients.stop();
    assert!(good > 0);
    let moves =
        |why| parvis.metric(&format!("parvis_admission_limit_moves_total{{why=\"{why}\"}}"));
    let (slower, looks) = (moves("slower").expect("shown"), moves("look").expect("shown"));
    assert!(slower + looks > 0.0, "it says why it moved");
}

#[test]
fn where_they_do_not_each_child_is_used_also_when_php_becomes_slower() {
    let php = Php::with_front_controller("work.php", CHILDREN);
    let parvis = before(&php, CHILDREN).start();
    let clients = Clients::start(&parvis, 24, "/customer/x?work=30");
    let enough = |clients: &Clients, count| clients.seen()[0] >= count;
    wait_until("requests", Duration::from_secs(60), || enough(&clients, 500));
    clients.stop();
    let slower = Clients::start(&parvis, 24, "/customer/x?work=90");
    wait_until("slower requests", Duration::from_secs(60), || enough(&slower, 500));
    wait_until("all children", Duration::from_secs(20), || limit(&parvis) >= 11.0);
    slower.stop();
}

#[test]
fn a_limit_that_is_not_adaptive_stays() {
    let php = Php::with_front_controller("database.php", CHILDREN);
    let parvis = before(&php, CHILDREN).with("admission.adaptive", "false").start();
    let clients = Clients::start(&parvis, 24, "/customer/x?alone=10");
    wait_until("requests", Duration::from_secs(60), || clients.seen()[0] >= 300);
    assert!(limit(&parvis) >= 12.0);
    clients.stop();
}
