//! The words of a message's route: operation, group and source (WIRE.md §§1.2, 1.5).
//!
//! A word is parsed once, where a message enters the node; inside it is a value. A word that this
//! version does not know is kept to the letter, so that it can be answered as unsupported and goes
//! out as it came in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares an enum of wire words, with a last variant for the words not known.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A word that this version does not know, to the letter.
            Unknown(Box<str>),
        }

        impl $name {
            /// The words that this version knows.
            pub const KNOWN: &'static [&'static str] = &[$($word),*];

            /// Takes a word as it stands on the wire.
            #[must_use]
            pub fn parse(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)*
                    other => Self::Unknown(other.into()),
                }
            }

            /// Returns the word as it stands on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Unknown(word) => word,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What a message asks for or tells (WIRE.md §1.2).
    Operation {
        /// No operation: the field was absent.
        None = "",
        /// An object is there.
        Insert = "insert",
        /// An object changed; also how the cloud sends most new pods.
        Update = "update",
        /// An object is gone, or is to go.
        Delete = "delete",
        /// An object is asked for.
        Query = "query",
        /// A part of an object is to change.
        Patch = "patch",
        /// The answer to the message that the parent id names, or its acknowledgement.
        Response = "response",
        /// The refusal of the message that the parent id names; the content says why.
        Error = "error",
        /// Router data on its way up.
        Upload = "upload",
        /// Lets a held pod or node upgrade go on.
        UnholdUpgrade = "unhold-upgrade",
        /// edgehub's heartbeat to the cloud.
        Keepalive = "keepalive",
        /// The notice that the cloud link came or went.
        Connect = "connect",
        /// A topic is to be subscribed to.
        Subscribe = "subscribe",
        /// A topic is to be left.
        Unsubscribe = "unsubscribe",
        /// A message for a topic.
        Message = "message",
        /// A message is to be published.
        Publish = "publish",
        /// A result is to be published.
        GetResult = "get_result",
        /// A URL is opened to the servicebus.
        Start = "start",
        /// A URL is closed to the servicebus.
        Stop = "stop",
        /// The containers of a pod are to be started again; within the node alone.
        Restart = "restart",
        /// Details are asked for, of a membership; not the HTTP verb.
        Get = "get",
        /// dynamiccontroller's answer to metaserver.
        ApplicationResponse = "applicationResponse",
        /// The word `null`, which metaserver's requests to the cloud carry.
        Null = "null",
        /// A node job's check.
        Check = "Check",
        /// A node job waits to be confirmed on the node.
        WaitingConfirmation = "WaitingConfirmation",
        /// A node job's back-up.
        BackUp = "BackUp",
        /// A node upgrade's step (v1alpha2).
        UpgradeStep = "Upgrade",
        /// A node job's way back.
        RollBack = "RollBack",
        /// An image pre-pull job's step.
        Pull = "Pull",
        /// A configuration job's step.
        UpdateStep = "Update",
        /// A node job's report.
        UpdateNodeActionStatus = "UpdateNodeActionStatus",
        /// A node upgrade (v1alpha1).
        Upgrade = "upgrade",
        /// An image pre-pull (v1alpha1).
        Prepull = "prepull",
        /// CSI: a volume is to be made.
        CreateVolume = "createvolume",
        /// CSI: a volume is to go.
        DeleteVolume = "deletevolume",
        /// CSI: a volume is to be attached.
        ControllerPublishVolume = "controllerpublishvolume",
        /// CSI: a volume is to be detached.
        ControllerUnpublishVolume = "controllerunpublishvolume",
        /// An HTTP request through the servicebus.
        HttpGet = "GET",
        /// An HTTP request through the servicebus.
        HttpPost = "POST",
        /// An HTTP request through the servicebus.
        HttpPut = "PUT",
        /// An HTTP request through the servicebus.
        HttpDelete = "DELETE",
        /// An HTTP request through the servicebus.
        HttpPatch = "PATCH",
        /// Between modules only: the receiver's main loop answers, which shows that it turns.
        Ping = "ping",
        /// Between modules only: the content comes back, by way of the modules that the resource
        /// names.
        Echo = "echo",
    }
}

words! {
    /// The group that a message is for, or comes from (WIRE.md §1.5).
    Group {
        /// No group: the field was absent.
        None = "",
        /// Kubernetes objects, from the cloud.
        Resource = "resource",
        /// Old name of `resource`.
        Func = "func",
        /// Devices.
        Twin = "twin",
        /// Router data.
        User = "user",
        /// Node jobs.
        Taskmanager = "taskmanager",
        /// Requests of edged to the cloud.
        Meta = "meta",
        /// edgehub, and reports of node jobs.
        Hub = "hub",
        /// MQTT and HTTP.
        Bus = "bus",
        /// The pod engine.
        Edged = "edged",
        /// The tunnel.
        Edgestream = "edgestream",
        /// metaserver's requests to the cloud.
        Dynamiccontroller = "dynamiccontroller",
        /// Between modules only: `ping` and `echo`.
        Diagnostic = "diagnostic",
    }
}

words! {
    /// Who made a message (WIRE.md §1.5).
    Source {
        /// No source: the field was absent.
        None = "",
        /// The cloud's controller of Kubernetes objects.
        Edgecontroller = "edgecontroller",
        /// The cloud's controller of devices.
        Devicecontroller = "devicecontroller",
        /// The cloud's pass-through to the Kubernetes API.
        Dynamiccontroller = "dynamiccontroller",
        /// The cloud's controller of ObjectSyncs.
        Synccontroller = "synccontroller",
        /// The cloud's controller of ServiceAccountAccess objects.
        Policycontroller = "policycontroller",
        /// The cloud's end of the link.
        Cloudhub = "cloudhub",
        /// The cloud's stream server.
        CloudStream = "cloudStream",
        /// The cloud's node jobs.
        Taskmanager = "taskmanager",
        /// The cloud's node upgrade jobs.
        Nodeupgradejobcontroller = "nodeupgradejobcontroller",
        /// The cloud's router, on its way to MQTT.
        RouterEventbus = "router_eventbus",
        /// The cloud's router, on its way to HTTP.
        RouterServicebus = "router_servicebus",
        /// An old name of the cloud.
        Edgemgr = "edgemgr",
        /// edgehub on the wire; the name stays even where the link is none.
        Websocket = "websocket",
        /// edgehub inside the node, on notices of the link.
        Edgehub = "edgehub",
        /// The pod engine.
        Edged = "edged",
        /// The store.
        Metamanager = "metamanager",
        /// The store, on acknowledgements of new devices.
        Meta = "meta",
        /// The local Kubernetes API.
        Metaserver = "metaserver",
        /// Devices.
        Twin = "twin",
        /// MQTT.
        Bus = "bus",
        /// HTTP.
        Servicebus = "servicebus",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_comes_back_as_it_was() {
        for word in Operation::KNOWN.iter().chain(&["frobnicate", "Insert", " insert"]) {
            assert_eq!(Operation::parse(word).as_str(), *word);
        }
        for word in Group::KNOWN.iter().chain(&["GROUP"]) {
            assert_eq!(Group::parse(word).as_str(), *word);
        }
        for word in Source::KNOWN.iter().chain(&["me"]) {
            assert_eq!(Source::parse(word).as_str(), *word);
        }
    }

    #[test]
    fn http_verbs_and_operations_are_not_the_same() {
        assert_ne!(Operation::parse("get"), Operation::parse("GET"));
        assert_eq!(Operation::parse("Get"), Operation::Unknown("Get".into()));
    }
}
