//! Tickets over time, restarts and nodes.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn at(epochs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + EPOCH * u32::try_from(epochs).unwrap()
}

fn opens(tickets: &Tickets, ticket: &[u8]) -> bool {
    tickets.decrypt(ticket).as_deref() == Some(b"state")
}

#[test]
fn a_ticket_lives_for_the_rest_of_its_epoch_and_one_more() {
    let tickets = Tickets::random(at(10)).unwrap();
    let ticket = tickets.encrypt(b"state").unwrap();
    assert!(opens(&tickets, &ticket));
    tickets.rotate(at(11)).unwrap();
    assert!(opens(&tickets, &ticket));
    assert_ne!(tickets.encrypt(b"state").unwrap()[..NAME_LEN], ticket[..NAME_LEN]);
    tickets.rotate(at(12)).unwrap();
    assert!(!opens(&tickets, &ticket));
}

#[test]
fn nodes_and_restarts_with_one_seed_take_each_others_tickets() {
    let dir = tempfile::tempdir().unwrap();
    let first = Tickets::open(dir.path(), at(10)).unwrap();
    let file = dir.path().join(FILE);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let ticket = first.encrypt(b"state").unwrap();
    assert!(opens(&Tickets::open(dir.path(), at(10)).unwrap(), &ticket), "after a restart");
    // A clock that is ahead, and one that is behind.
    let ahead = Tickets::open(dir.path(), at(11)).unwrap();
    assert!(opens(&ahead, &ticket));
    assert!(opens(&first, &ahead.encrypt(b"state").unwrap()));
    let back = Tickets::open(dir.path(), at(3)).unwrap();
    assert!(opens(&back, &ahead.encrypt(b"state").unwrap()), "never backwards");
    assert!(!opens(&Tickets::random(at(10)).unwrap(), &ticket), "another seed");
}

#[test]
fn a_seed_does_not_tell_the_one_before() {
    let chain = Chain { epoch: 5, seed: [7; 32] };
    let next = chain.next();
    assert_eq!(Chain::parse(&next.text()), Some(next.clone()));
    assert_ne!(next.seed, chain.seed);
    assert!(!next.text().contains(&"07".repeat(32)));
}

#[test]
fn what_is_no_seed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for text in
        ["", "1", "1 00", &format!("x {}", "00".repeat(32)), &format!("1 {}", "zz".repeat(32))]
    {
        fs::write(dir.path().join(FILE), text).unwrap();
        let error = Tickets::open(dir.path(), at(1)).expect_err(text).to_string();
        assert!(error.contains("is no ticket seed"), "{error}");
    }
}

#[test]
fn forged_tickets_are_none() {
    let tickets = Tickets::random(at(10)).unwrap();
    let ticket = tickets.encrypt(b"state").unwrap();
    for length in 0..ticket.len() {
        assert_eq!(tickets.decrypt(&ticket[..length]), None, "{length} bytes");
    }
    for place in 0..ticket.len() {
        let mut forged = ticket.clone();
        forged[place] ^= 1;
        assert_eq!(tickets.decrypt(&forged), None, "byte {place}");
    }
}
