//! A container runtime made up of lists that speaks the interface over a socket: it tells of what
//! happens, and on request it hangs, lies, forgets, restarts or is not there.

mod images;
mod lists;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::cri::words as w;

/// How the runtime behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// It does what it is told, and says so.
    Good,
    /// It takes calls and never answers.
    Hangs,
    /// It says that it stops and starts containers, and does not.
    Lies,
    /// What it tells is full of nonsense.
    Raves,
    /// Its disk can only be read.
    ReadOnly,
}

/// What it is asked or told.
enum Said {
    Call(String, Bytes, oneshot::Sender<Answer>),
    Mood(Mood),
    /// A container ends, by the name of its pod, with a code.
    Exit(String, i32),
    /// These images are here: their ids, and their sizes.
    Images(Vec<(&'static str, u64)>),
    /// Where the images are.
    Place(String),
    /// Who makes control groups.
    Driver(w::CgroupDriver),
    /// Its clock is set, by so many nanoseconds.
    Clock(i64),
    /// Which addresses sandboxes have.
    Addresses(Vec<&'static str>),
    Look(oneshot::Sender<Sight>),
}

/// An answer: a message, a stream of them, or a code with a text.
enum Answer {
    One(Bytes),
    Stream(mpsc::Receiver<Bytes>),
    Failed(u32, &'static str),
}

/// What can be seen from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    /// How often each call was made.
    pub(super) calls: BTreeMap<String, usize>,
    /// Lists of everything.
    pub(super) lists: usize,
    /// The pods' names of the containers that run.
    pub(super) running: Vec<String>,
    /// Whether somebody listens.
    pub(super) heard: bool,
    /// The containers that it has.
    pub(super) configs: Vec<w::ContainerConfig>,
    /// The sandboxes that it has.
    pub(super) sandboxes: Vec<w::PodSandboxConfig>,
    /// The ids of the images.
    pub(super) images: Vec<&'static str>,
}

/// The runtime.
pub(super) struct Fake {
    socket: PathBuf,
    said: mpsc::Sender<Said>,
    listener: Option<JoinHandle<()>>,
    events: bool,
}

impl Fake {
    /// Makes a runtime that is not there yet; `events` is whether it tells of what happens.
    pub(super) fn new(folder: &Path, events: bool) -> Self {
        let (said, mut heard) = mpsc::channel(64);
        tokio::spawn(async move {
            let mut world = World { events, ..World::default() };
            while let Some(said) = heard.recv().await {
                world.hear(said);
            }
        });
        Self { socket: folder.join("fake.sock"), said, listener: None, events }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Begins to listen.
    pub(super) fn begin(&mut self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let said = self.said.clone();
        self.listener = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, said.clone()));
            }
        }));
    }

    /// Ends as a killed process does; what it has stays.
    pub(super) async fn kill(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
            assert!(listener.await.is_err(), "it ended by itself");
        }
        std::fs::remove_file(&self.socket).unwrap();
        self.mood(Mood::Good).await;
    }

    pub(super) async fn mood(&self, mood: Mood) {
        self.said.send(Said::Mood(mood)).await.ok().unwrap();
    }

    /// Lets the container of a pod end.
    pub(super) async fn exit(&self, pod: &str, code: i32) {
        self.said.send(Said::Exit(pod.to_owned(), code)).await.ok().unwrap();
    }

    /// Has these images, and says that they are there.
    pub(super) async fn images(&self, images: &[(&'static str, u64)], place: &Path) {
        self.said.send(Said::Images(images.to_vec())).await.ok().unwrap();
        self.said.send(Said::Place(place.display().to_string())).await.ok().unwrap();
    }

    /// Has control groups made by this driver.
    pub(super) async fn driver(&self, driver: w::CgroupDriver) {
        self.said.send(Said::Driver(driver)).await.ok().unwrap();
    }

    /// Sets its clock, by so many years from what it is.
    pub(super) async fn clock(&self, years: i64) {
        self.said.send(Said::Clock(years * 365 * 86_400_000_000_000)).await.ok().unwrap();
    }

    /// Gives sandboxes these addresses.
    pub(super) async fn addresses(&self, addresses: &[&'static str]) {
        self.said.send(Said::Addresses(addresses.to_vec())).await.ok().unwrap();
    }

    pub(super) async fn look(&self) -> Sight {
        let (sender, sight) = oneshot::channel();
        self.said.send(Said::Look(sender)).await.ok().unwrap();
        let sight = sight.await.unwrap();
        assert!(self.events || !sight.heard);
        sight
    }
}

async fn serve(stream: UnixStream, said: mpsc::Sender<Said>) {
    let service = hyper::service::service_fn(move |request| answer(request, said.clone()));
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ended = builder.serve_connection(TokioIo::new(stream), service).await;
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

async fn answer(
    request: Request<Incoming>,
    said: mpsc::Sender<Said>,
) -> Result<Response<Body>, Infallible> {
    let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let body = body.unwrap_or_default();
    let (sender, answer) = oneshot::channel();
    let content = body.slice(5.min(body.len())..);
    said.send(Said::Call(call, content, sender)).await.ok().unwrap();
    let Ok(answer) = answer.await else { std::future::pending().await };
    let end = |code: u32, text: &'static str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.into());
        trailers.insert("grpc-message", text.parse().unwrap());
        Frame::trailers(trailers)
    };
    let frames = match answer {
        Answer::One(message) => {
            StreamBody::new(stream::iter([Ok(framed(&message)), Ok(end(0, ""))])).boxed_unsync()
        }
        Answer::Failed(code, text) => {
            StreamBody::new(stream::iter([Ok(end(code, text))])).boxed_unsync()
        }
        Answer::Stream(events) => {
            let next = async |mut events: mpsc::Receiver<Bytes>| {
                events.recv().await.map(|event| (Ok(framed(&event)), events))
            };
            StreamBody::new(stream::unfold(events, next)).boxed_unsync()
        }
    };
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(frames).unwrap())
}

fn framed(message: &Bytes) -> Frame<Bytes> {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.extend_from_slice(message);
    Frame::data(frame.freeze())
}

#[derive(Clone, Debug)]
struct Container {
    id: String,
    sandbox: String,
    config: w::ContainerConfig,
    state: w::ContainerState,
    code: i32,
    times: [i64; 3],
}

#[derive(Default)]
struct World {
    events: bool,
    mood: Option<Mood>,
    clock: i64,
    shift: i64,
    sandboxes: Vec<(String, w::PodSandboxConfig, bool, i64)>,
    containers: Vec<Container>,
    listeners: Vec<mpsc::Sender<Bytes>>,
    /// Calls that are not answered.
    hung: VecDeque<oneshot::Sender<Answer>>,
    calls: BTreeMap<String, usize>,
    lists: usize,
    made: usize,
    images: Vec<(&'static str, u64)>,
    place: String,
    driver: Option<w::CgroupDriver>,
    addresses: Vec<&'static str>,
}

fn one(message: &impl Message) -> Answer {
    Answer::One(message.encode_to_vec().into())
}

impl World {
    fn hear(&mut self, said: Said) {
        self.clock = module_runtime::unix_millis() * 1_000_000 + self.shift;
        match said {
            Said::Mood(mood) => {
                self.mood = Some(mood);
                self.hung.clear();
            }
            Said::Exit(pod, code) => {
                let of_pod =
                    |it: &&mut Container| it.config.labels[crate::pod::names::POD_NAME] == pod;
                let running = self.containers.iter_mut().filter(of_pod);
                for container in running.filter(|it| it.state == w::ContainerState::Running) {
                    container.state = w::ContainerState::Exited;
                    (container.code, container.times[2]) = (code, self.clock);
                }
                self.tell();
            }
            Said::Images(images) => self.images = images,
            Said::Place(place) => self.place = place,
            Said::Clock(shift) => self.shift = shift,
            Said::Driver(driver) => self.driver = Some(driver),
            Said::Addresses(addresses) => self.addresses = addresses,
            Said::Look(sender) => drop(sender.send(self.sight())),
            Said::Call(call, content, sender) => {
                *self.calls.entry(call.clone()).or_default() += 1;
                if self.mood == Some(Mood::Hangs) {
                    self.hung.push_back(sender);
                    return;
                }
                let answer = self.answer(&call, content);
                drop(sender.send(answer));
            }
        }
    }

    /// Tells whoever listens that something happened.
    fn tell(&mut self) {
        let event =
            Bytes::from(w::ContainerEventResponse { container_id: "c".into() }.encode_to_vec());
        self.listeners.retain(|listener| listener.try_send(event.clone()).is_ok());
    }

    fn sight(&self) -> Sight {
        let running = self.containers.iter().filter(|it| it.state == w::ContainerState::Running);
        let name = |it: &Container| it.config.labels[crate::pod::names::POD_NAME].clone();
        let mut running: Vec<_> = running.map(name).collect();
        running.sort();
        Sight {
            calls: self.calls.clone(),
            lists: self.lists,
            running,
            heard: !self.listeners.is_empty(),
            configs: self.containers.iter().map(|it| it.config.clone()).collect(),
            sandboxes: self.sandboxes.iter().map(|it| it.1.clone()).collect(),
            images: self.images.iter().map(|(id, _)| *id).collect(),
        }
    }

    fn answer(&mut self, call: &str, content: Bytes) -> Answer {
        let lies = self.mood == Some(Mood::Lies);
        match call {
            "Version" => one(&w::VersionResponse {
                runtime_name: "fake".into(),
                runtime_version: "1".into(),
            }),
            "ImageStatus" => one(&w::ImageStatusResponse {
                image: Some(w::Image { id: "sha256:1".into(), ..w::Image::default() }),
            }),
            "GetContainerEvents" if self.events => {
                let (sender, receiver) = mpsc::channel(64);
                self.listeners.push(sender);
                Answer::Stream(receiver)
            }
            "RunPodSandbox" => self.run_sandbox(content),
            "CreateContainer" => self.create(content),
            "StartContainer" | "StopContainer" | "StopPodSandbox" | "RemoveContainer"
            | "RemovePodSandbox"
                if lies =>
            {
                one(&w::Empty {})
            }
            "StartContainer" => self.start(content),
            "StopContainer" => self.stop(content),
            "StopPodSandbox" => self.stop_sandbox(content),
            "RemoveContainer" | "RemovePodSandbox" => self.remove(content),
            "Status" => lists::ready(),
            "RuntimeConfig" if self.driver.is_some() => self.config(),
            "ListImages" => self.list_images(),
            "RemoveImage" if self.mood == Some(Mood::ReadOnly) => {
                Answer::Failed(2, "read-only file system")
            }
            "RemoveImage" => self.remove_image(content),
            "ImageFsInfo" => self.image_place(),
            "ListPodSandbox" => self.list_sandboxes(content),
            "ListContainers" => self.list_containers(content),
            "PodSandboxStatus" => self.sandbox_status(content),
            "ContainerStatus" => self.container_status(content),
            _ => Answer::Failed(12, "unknown method"),
        }
    }

    fn run_sandbox(&mut self, content: Bytes) -> Answer {
        let request = w::RunPodSandboxRequest::decode(content).unwrap();
        self.made += 1;
        let id = format!("s{}", self.made);
        self.sandboxes.push((id.clone(), request.config.unwrap(), true, self.clock));
        self.tell();
        one(&w::RunPodSandboxResponse { pod_sandbox_id: id })
    }

    fn create(&mut self, content: Bytes) -> Answer {
        let request = w::CreateContainerRequest::decode(content).unwrap();
        let config = request.config.unwrap();
        let state = w::ContainerState::Created;
        self.made += 1;
        let id = format!("c{}", self.made);
        let sandbox = request.pod_sandbox_id;
        let times = [self.clock, 0, 0];
        self.containers.push(Container { id: id.clone(), sandbox, config, state, code: 0, times });
        one(&w::CreateContainerResponse { container_id: id })
    }

    fn start(&mut self, content: Bytes) -> Answer {
        let id = w::StartContainerRequest::decode(content).unwrap().container_id;
        for container in self.containers.iter_mut().filter(|it| it.id == id) {
            container.state = w::ContainerState::Running;
            container.times[1] = self.clock;
        }
        self.tell();
        one(&w::Empty {})
    }

    fn stop(&mut self, content: Bytes) -> Answer {
        let id = w::StopContainerRequest::decode(content).unwrap().container_id;
        for container in self.containers.iter_mut().filter(|it| it.id == id) {
            container.state = w::ContainerState::Exited;
            (container.code, container.times[2]) = (137, self.clock);
        }
        self.tell();
        one(&w::Empty {})
    }

    fn stop_sandbox(&mut self, content: Bytes) -> Answer {
        let id = w::StopPodSandboxRequest::decode(content).unwrap().pod_sandbox_id;
        for sandbox in self.sandboxes.iter_mut().filter(|it| it.0 == id) {
            sandbox.2 = false;
        }
        one(&w::Empty {})
    }

    /// Removes a container or a sandbox: their requests look the same.
    fn remove(&mut self, content: Bytes) -> Answer {
        let id = w::RemoveContainerRequest::decode(content).unwrap().container_id;
        self.containers.retain(|it| it.id != id && it.sandbox != id);
        self.sandboxes.retain(|it| it.0 != id);
        self.tell();
        one(&w::Empty {})
    }
}
