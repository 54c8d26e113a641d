//! What happens to pods and to the node, in kubelet's words: taken down where it happens, and handed on to whoever
//! tells the cloud. Nobody waits for it: what does not fit is lost, as events may be.

use tokio::sync::mpsc;

use crate::pod::spec::Pod;

/// How many notes may wait.
pub(crate) const WAITING: usize = 256;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) about: About,
    pub(crate) warning: bool,
    /// In one word, as kubelet's.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What a note is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct About {
    /// `Pod` or `Node`.
    pub(crate) kind: &'static str,
    /// Empty for a node.
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The part of the pod, such as `spec.containers{c}`; empty for the whole.
    pub(crate) part: String,
}

impl About {
    /// Names a pod.
    pub(crate) fn pod(pod: &Pod) -> Self {
        let metadata = &pod.metadata;
        Self {
            kind: "Pod",
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            part: String::new(),
        }
    }

    /// Names a node. Its name stands for its uid, as kubelet has it: that is what `kubectl describe
    /// node` looks for.
    pub(crate) fn node(name: &str) -> Self {
        let (name, uid) = (name.to_owned(), name.to_owned());
        Self { kind: "Node", namespace: String::new(), name, uid, part: String::new() }
    }

    /// Names a container of a pod.
    pub(crate) fn container(pod: &Pod, name: &str) -> Self {
        let is_init = pod.spec.init_containers.iter().any(|init| init.name == name);
        let is_guest = || pod.spec.ephemeral_containers.iter().any(|guest| guest.name == name);
        let list = match is_init {
            true => "initContainers",
            false if is_guest() => "ephemeralContainers",
            false => "containers",
        };
        Self { part: format!("spec.{list}{{{name}}}"), ..Self::pod(pod) }
    }
}

/// Where notes go.
#[derive(Clone, Debug)]
pub(crate) struct Notes(mpsc::Sender<Note>);

impl Notes {
    /// Makes the way to whoever receives them.
    pub(crate) const fn new(sender: mpsc::Sender<Note>) -> Self {
        Self(sender)
    }

    /// Hands a note on.
    pub(crate) fn tell(&self, note: Note) {
        let _lost = self.0.try_send(note);
    }

    /// Notes what is as it should be.
    pub(crate) fn normal(&self, about: About, reason: &'static str, message: String) {
        self.tell(Note { about, warning: false, reason, message });
    }

    /// Notes what is not.
    pub(crate) fn warning(&self, about: About, reason: &'static str, message: String) {
        self.tell(Note { about, warning: true, reason, message });
    }
}
