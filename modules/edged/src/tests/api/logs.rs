//! Logs with a real containerd: all options, and followers through rotations, restarts and ends.

use std::io::Write as _;

use super::super::containerd::SOON;
use super::*;

#[tokio::test]
async fn logs_are_read_with_all_options_and_followed_over_a_rotation() {
    let Some(mut stage) = stage().await else { return };
    let path = "/containerLogs/ns/p/speaker";
    until("the container spoke", async || stage.get(path).await.contains("two\n")).await;
    assert_eq!(stage.get(&format!("{path}?tailLines=0")).await, "");
    assert_eq!(stage.get(&format!("{path}?limitBytes=5")).await.len(), 5);
    assert_eq!(stage.get(&format!("{path}?stream=Stderr")).await, "two\n");
    assert_eq!(stage.get(&format!("{path}?sinceTime=2999-01-01T00:00:00Z")).await, "");
    assert!(stage.get(&format!("{path}?sinceSeconds=3600&stream=Stdout")).await.contains("one\n"));
    let stamped = stage.get(&format!("{path}?timestamps=true&stream=Stderr")).await;
    assert_eq!(stamped.find("Z two\n").or(stamped.find(" two\n").map(|at| at - 1)), Some(29));

    let head = format!("GET {path}?follow=true HTTP/1.1\r\nHost: n\r\n\r\n");
    let mut followers = Vec::new();
    for _ in 0..100 {
        let mut follower = stage.send(&head).await;
        read_until(&mut follower, "one").await;
        followers.push(follower);
    }
    let (id, log) = stage.log().await;
    let old = log.with_extension("log.20990101-000000");
    std::fs::rename(&log, &old).unwrap();
    let line = |text: &str| format!("2999-01-01T00:00:00.1Z stdout F {text}\n");
    let mut file = std::fs::OpenOptions::new().append(true).open(&old).unwrap();
    file.write_all(line("last of the old").as_bytes()).unwrap();
    std::fs::write(&log, line("first of the new")).unwrap();
    // It is compressed, as old ones are.
    std::fs::write(old.with_extension("gz"), [0x1f, 0x8b]).unwrap();
    std::fs::remove_file(&old).unwrap();
    for follower in &mut followers {
        let read = read_until(follower, "first of the new").await;
        assert_eq!(read.matches("last of the old\n").count(), 1, "{read}");
    }
    let (status, text) = stage.ask("GET", &format!("{path}?previous=true")).await;
    let none = r#"previous terminated container "speaker" in pod "p" not found"#;
    assert_eq!((status, text.as_str()), (400, none));

    stage.containerd.runtime().stop_container(&id, Duration::ZERO).await.unwrap();
    let all_end = async {
        for follower in &mut followers {
            read_until(follower, "0\r\n\r\n").await;
        }
    };
    stage.bench.during(all_end).await;
    stage.containerd.end().await;
}

impl Stage {
    /// Has the speaker say something.
    async fn say(&self, script: &str) {
        let (id, _) = self.log().await;
        let command = ["sh", "-c", &format!("({script}) > /next; mv /next /go")];
        let command = command.map(ToOwned::to_owned).to_vec();
        let ran = self.containerd.runtime().exec(&id, command, Some(SOON)).await.unwrap();
        assert_eq!(ran.exit_code, 0, "{ran:?}");
    }

    async fn follow(&self) -> TcpStream {
        let path = "/containerLogs/ns/p/speaker?follow=true";
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: n\r\n\r\n")).await
    }
}

#[tokio::test]
async fn followers_see_a_container_to_its_end_and_its_log_is_there_when_it_runs_again() {
    let Some(mut stage) = stage().await else { return };
    let path = "/containerLogs/ns/p/speaker";
    let mut follower = stage.follow().await;
    read_until(&mut follower, "one").await;
    // The runtime breaks such a line into parts.
    stage.say("head -c 40000 /dev/zero | tr '\\0' x; echo end").await;
    read_until(&mut follower, "xend\n").await;
    let stamped = stage.get(&format!("{path}?timestamps=true")).await;
    let long = stamped.lines().find(|line| line.ends_with("xend")).unwrap();
    // What was said before had no end yet.
    let (_, text) = long.split_once(' ').unwrap();
    assert_eq!(text, format!("three{}end", "x".repeat(40_000)));

    let (id, _) = stage.log().await;
    stage.containerd.runtime().stop_container(&id, Duration::ZERO).await.unwrap();
    let runs_again = |it: &Value| it["restartCount"] == 1 && it["ready"] == true;
    stage.speaker_until("the speaker runs again", runs_again).await;
    read_until(&mut follower, "0\r\n\r\n").await;
    let before = stage.get(&format!("{path}?previous=true&tailLines=3")).await;
    assert!(before.ends_with("xend\n"), "{before:?}");
    until("it speaks again", async || stage.get(path).await.contains("two\n")).await;
    assert!(!stage.get(path).await.contains("xend"));

    let mut follower = stage.follow().await;
    read_until(&mut follower, "one").await;
    stage.bench.pods.remove("ns", "p", br#"{"metadata":{"uid":"uid-p"}}"#);
    stage.bench.until("the pod is gone", |bench| bench.pods.count() == 0).await;
    stage.pods.send_replace(stage.bench.pods.all());
    read_until(&mut follower, "0\r\n\r\n").await;
    let (status, text) = stage.ask("GET", path).await;
    assert_eq!((status, text.as_str()), (404, "pod \"p\" does not exist"));
    stage.containerd.end().await;
}

#[tokio::test]
async fn a_log_whose_disk_hangs_holds_up_nobody_else() {
    let Some(stage) = stage().await else { return };
    let (_, log) = stage.log().await;
    let aside = log.with_extension("aside");
    std::fs::rename(&log, &aside).unwrap();
    // Who opens it waits for another who does, as for a disk.
    let mode = rustix::fs::Mode::from(0o600);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &log, kind, mode, 0).unwrap();
    let mut stuck = stage.send("GET /containerLogs/ns/p/speaker HTTP/1.0\r\n\r\n").await;
    assert_eq!(stage.get("/healthz").await, "ok");
    assert_eq!(stage.get("/containerLogs/ns/p/worker").await, "");
    let pods: Value = serde_json::from_str(&stage.get("/pods").await).unwrap();
    assert_eq!(pods["items"][0]["metadata"]["name"], "p");
    // It comes back.
    let writer = tokio::task::spawn_blocking(move || {
        drop(std::fs::OpenOptions::new().write(true).open(log).unwrap());
    });
    read_until(&mut stuck, "it is no file").await;
    writer.await.unwrap();
    stage.containerd.end().await;
}
