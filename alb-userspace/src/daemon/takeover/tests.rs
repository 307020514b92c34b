//! What is heard of bytes that come in pieces, too few, too many or wrong; descriptors.

use std::{fs::File, os::fd::AsFd as _, os::unix::fs::MetadataExt as _};

use super::*;

fn channels() -> (UnixStream, Channel) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours, Channel::new(theirs))
}

/// A message with its length.
fn message(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat()
}

#[tokio::test]
async fn a_message_may_come_in_pieces_and_be_waited_for_in_turns() {
    let (mut ours, mut theirs) = channels();
    let mut heard = Vec::new();
    for byte in message(r#""Release""#).iter().chain(&message(r#""Ready""#)) {
        ours.write_all(&[*byte]).await.unwrap();
        tokio::select! {
            biased;
            ask = theirs.hear::<Ask>() => heard.extend(ask.unwrap()),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(ours);
    while let Some(ask) = theirs.hear().await.unwrap() {
        heard.push(ask);
    }
    assert!(matches!(heard[..], [Ask::Release, Ask::Ready]), "{heard:?}");
}

#[tokio::test]
async fn what_is_no_message_is_an_error_and_an_end_is_none() {
    let long = (u32::try_from(LONGEST).unwrap() - 3).to_le_bytes().to_vec();
    for (bytes, words) in [
        (long, "a message of more than 64 MiB"),
        (u32::MAX.to_le_bytes().to_vec(), "a message of more than 64 MiB"),
        (message(""), "EOF while parsing"),
        (message("Ready"), "expected value"),
        (message("\"Later\""), "unknown variant"),
        (message("\"Ready\" x"), "trailing characters"),
        (b"\xff\0\0\0".to_vec(), ""),
        (b"\x07\0\0\0\"Read".to_vec(), ""),
        (b"\x07".to_vec(), ""),
    ] {
        let (mut ours, mut theirs) = channels();
        ours.write_all(&bytes).await.unwrap();
        drop(ours);
        match theirs.hear::<Ask>().await {
            Ok(heard) => assert!(heard.is_none() && words.is_empty(), "{bytes:?}: {heard:?}"),
            Err(error) => {
                assert!(!words.is_empty() && error.to_string().contains(words), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn more_descriptors_than_fit_into_one_message_arrive() {
    let (ours, mut theirs) = channels();
    let file = File::open("/dev/null").unwrap();
    let mut ours = Channel::new(ours);
    ours.give(&vec![file.as_fd(); 2 * AT_ONCE + 1]).await.unwrap();
    ours.say(&Ask::Serving).await.unwrap();
    let taken = theirs.take(2 * AT_ONCE + 1).await.unwrap();
    let inode = |file: &File| file.metadata().unwrap().ino();
    for one in taken {
        assert_eq!(inode(&File::from(one)), inode(&file));
    }
    assert!(matches!(theirs.hear::<Ask>().await, Ok(Some(Ask::Serving))), "nothing was lost");
}
