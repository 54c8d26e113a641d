//! What CloudCore and KubeEdge's own edgecore said to each other, played to this module's codec and
//! sessions.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;

use crate::core::{Effect, Sessions};
use crate::frames::{self, Decoder, HEAD, Message};
use crate::words::{self, Frame, Kind};

const RECORDING: &str = include_str!("../tests/fixtures/tunnel.txt");

/// Returns the frames in order, and whether each went down to the node.
fn recorded() -> impl Iterator<Item = (bool, Vec<u8>)> {
    RECORDING.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (way, hex) = line.split_once(' ').unwrap();
        (way == "down", HEXLOWER.decode(hex.as_bytes()).unwrap())
    })
}

/// Takes the mask off a node's frame; returns it and the payload.
fn unmasked(frame: &[u8]) -> ([u8; 4], Bytes) {
    let head = if frame[1] & 0x7f == 126 { 4 } else { 2 };
    let mask = [frame[head], frame[head + 1], frame[head + 2], frame[head + 3]];
    let payload = frame[head + 4..].iter().zip(mask.iter().cycle());
    (mask, payload.map(|(byte, mask)| byte ^ mask).collect())
}

#[test]
fn recorded_frames_are_written_as_they_were() {
    let mut count = 0;
    for (_, recorded) in recorded().filter(|(down, _)| !down) {
        let (mask, payload) = unmasked(&recorded);
        let Frame { connection, kind, data } = Frame::read(payload).unwrap();
        let mut ours = BytesMut::zeroed(HEAD);
        words::write_head(&mut ours, connection, kind);
        ours.extend_from_slice(&data);
        let start = frames::seal(&mut ours, frames::Kind::Text, mask);
        assert_eq!(ours[start..], recorded[..]);
        count += 1;
    }
    assert_eq!(count, 31, "frames of the node");
}

/// Effects of all that the cloud said, and of the ends that the node told of.
fn played(cut: usize) -> Vec<Effect> {
    let mut sessions = Sessions::new("127.0.0.1:10350".to_owned());
    let mut decoder = Decoder::new(BytesMut::new());
    let (mut lives, mut effects) = (BTreeMap::new(), Vec::new());
    for (down, frame) in recorded() {
        if !down {
            let Frame { connection, kind, .. } = Frame::read(unmasked(&frame).1).unwrap();
            if kind == Kind::Remove {
                effects.extend(sessions.ended(connection, lives[&connection]));
            }
            continue;
        }
        for piece in frame.chunks(cut) {
            decoder.input.extend_from_slice(piece);
            while let Some(message) = decoder.next().unwrap() {
                let Message::Data(bytes) = message else { panic!("{message:?}") };
                let new = sessions.came(Frame::read(bytes).unwrap());
                for effect in &new {
                    if let Effect::Open(connection, life, _) = effect {
                        lives.insert(*connection, *life);
                    }
                }
                effects.extend(new);
            }
        }
    }
    assert_eq!(sessions.len(), 0, "all have ended");
    effects
}

#[test]
fn a_recorded_tunnel_opens_feeds_and_ends_each_stream_once() {
    let effects = played(usize::MAX);
    let mut opened = Vec::new();
    for effect in &effects {
        if let Effect::Open(_, _, request) = effect {
            opened.push(request);
        }
    }
    let paths: Vec<_> = opened.iter().map(|it| it.target.split('?').next().unwrap()).collect();
    let (logs, exec) = ("/containerLogs/default/cap-pod/c", "/exec/default/cap-pod/c");
    let numbers = ["/stats/summary", "/metrics/resource"];
    let attach = "/attach/default/cap-pod/c";
    assert_eq!(paths, [logs, logs, exec, exec, exec, attach, numbers[0], numbers[1]]);
    let offered = opened[2].headers.get_all("x-stream-protocol-version").iter().count();
    assert_eq!(offered, 5, "versions of the stream's protocol");
    for connection in 1..=8 {
        let ends = effects.iter().filter(|it| **it == Effect::Drop(connection)).count();
        let told =
            effects.iter().filter(|it| **it == Effect::Say(connection, Kind::Remove, Bytes::new()));
        assert_eq!((ends, told.count()), (1, 1), "of stream {connection}");
    }
    let fed = |effect: &&Effect| matches!(effect, Effect::Feed(3, _));
    let fed: Vec<_> = effects.iter().filter(fed).collect();
    assert_eq!(*fed[0], Effect::Feed(3, Bytes::from_static(b"\x80\x03")));
    assert_eq!(fed.len(), 3);
}

#[test]
fn it_does_not_matter_how_a_recorded_tunnel_is_cut() {
    let whole = played(usize::MAX);
    for cut in [1, 2, 3, 7, 100] {
        assert_eq!(played(cut), whole, "cut every {cut} bytes");
    }
}
