//! Bodies that turn out bad after the head was good: the origin never gets a whole request, and
//! nothing of what follows.

use super::{SECOND, Site, Table, lab, post};

#[test]
fn bad_chunks_never_end_a_request() {
    let lab = lab(1);
    let mut table = Table::new(&lab, &Site::of(&lab));
    for body in [
        "g\r\nabcde\r\n0\r\n\r\n",
        "5\nabcde\r\n0\r\n\r\n",
        "5\r\nabcde\n0\r\n\r\n",
        "5\r\nabcdef\r\n0\r\n\r\n",
        "5\r\nabcd\r\n0\r\n\r\n",
        "-5\r\nabcde\r\n0\r\n\r\n",
        "+5\r\nabcde\r\n0\r\n\r\n",
        "0x5\r\nabcde\r\n0\r\n\r\n",
        " 5\r\nabcde\r\n0\r\n\r\n",
        "5 \r\nabcde\r\n0\r\n\r\n",
        "\r\n5\r\nabcde\r\n0\r\n\r\n",
        "5\r\r\nabcde\r\n0\r\n\r\n",
        "5;a\nb\r\nabcde\r\n0\r\n\r\n",
        "5;a\rb\r\nabcde\r\n0\r\n\r\n",
        "10000000000000000\r\nabcde\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nabcde\r\n0\r\n\r\n",
        "00000000000000000000005\r\nabcde\r\n0\r\n\r\n",
        "5\r\nabcde\r\n0\r\nX\r\n\r\n",
        "5\r\nabcde\r\n0\r\n X: y\r\n\r\n",
        "5\r\nabcde\r\n0\r\nX: y\n\r\n",
        "5\r\nabcde\r\n0\r\nX : y\r\n\r\n",
        "5\r\nabcde\r\n0\r\nContent-Length: 5\r\n\r\n",
        "5\r\nabcde\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5\r\nabcde\r\n0\r\nHost: b\r\n\r\n",
    ] {
        let request = post("Transfer-Encoding: chunked\r\n", body);
        let (statuses, heard) = table.send(&request);
        let whole = |text: &String| text.ends_with("\r\n\r\n0\r\n\r\n") || text.contains("/second");
        let found = format!("{statuses:?} whole: {} {heard:?}", heard.iter().any(whole));
        let wanted = format!("[400] whole: false {heard:?}");
        table.expect(&request, &found, &wanted);
    }
    table.done();
}

#[test]
fn long_extensions_and_trailers_are_refused() {
    let lab = lab(1);
    let mut table = Table::new(&lab, &Site::of(&lab));
    let long = "x".repeat(200_000);
    for body in [
        format!("5;{long}\r\nabcde\r\n0\r\n\r\n"),
        format!("5\r\nabcde\r\n0\r\nX: {long}\r\n\r\n"),
        format!("5\r\nabcde\r\n0\r\n{}\r\n", "X: y\r\n".repeat(20_000)),
    ] {
        let request = post("Transfer-Encoding: chunked\r\n", &body);
        let (statuses, heard) = table.send(&request);
        assert!(matches!(statuses[..], [400 | 431]), "{statuses:?}");
        assert!(!heard.iter().any(|text| text.contains(SECOND)), "{heard:?}");
    }
}
