//! What PHP-FPM says of itself.

use super::*;

fn ceiling(parvis: &Parvis) -> Option<f64> {
    parvis.metric("parvis_admission_ceiling ")
}

#[test]
fn no_more_go_to_php_than_it_has_children_and_not_those_that_others_have() {
    let php = Php::with_front_controller("work.php", 4);
    let parvis = before(&php, 32)
        .with("origin.status", "\"/status\"")
        .with("origin.status_interval", "\"100ms\"")
        .start();
    let becomes = |what: &str, expected: f64| {
        wait_until(what, Duration::from_secs(20), || ceiling(&parvis) == Some(expected));
    };
    becomes("four children", 4.0);
    assert_eq!(parvis.metric("parvis_php_children "), Some(4.0));
    let other = before(&php, 32).start();
    let busy: Vec<_> = (0..2)
        .map(|number| ask_beside(&other, &format!("/customer/x?work=3000&n={number}")))
        .collect();
    becomes("two of them", 2.0);
    assert!(busy.iter().all(|reply| !reply.is_finished()));
    for reply in busy {
        assert_eq!(reply.join().expect("no panic").status, 200);
    }
    becomes("four again", 4.0);
}

#[test]
fn a_status_that_cannot_be_read_leaves_the_setting_and_says_so_once() {
    let php = Php::with_front_controller("work.php", 4);
    let parvis = before(&php, 7)
        .with("origin.status", "\"/fpm-status\"")
        .with("origin.status_interval", "\"100ms\"")
        .start();
    let said = || parvis.stderr().matches("status cannot be read").count();
    wait_until("a warning", Duration::from_secs(20), || said() > 0);
    thread::sleep(Duration::from_secs(1));
    assert_eq!((said(), ceiling(&parvis)), (1, Some(7.0)));
    assert_eq!(parvis.metric("parvis_php_children "), None);
    assert_eq!(parvis.get("/page", &[]).status, 200);
}
