//! What the fake runtime tells: how it is, which sandboxes and containers it has.

use bytes::Bytes;
use prost::Message as _;

use super::{Answer, Container, Mood, World, one, w};

/// Says that all is well.
pub(super) fn ready() -> Answer {
    let met = |kind: &str| w::RuntimeCondition {
        r#type: kind.to_owned(),
        status: true,
        ..w::RuntimeCondition::default()
    };
    let conditions = vec![met("RuntimeReady"), met("NetworkReady")];
    let status = Some(w::RuntimeStatus { conditions });
    one(&w::StatusResponse { status, ..w::StatusResponse::default() })
}

impl World {
    pub(super) fn config(&self) -> Answer {
        let driver = self.driver.unwrap_or(w::CgroupDriver::Cgroupfs).into();
        let linux = Some(w::LinuxRuntimeConfiguration { cgroup_driver: driver });
        one(&w::RuntimeConfigResponse { linux })
    }

    pub(super) fn list_sandboxes(&mut self, content: Bytes) -> Answer {
        let filter = w::ListPodSandboxRequest::decode(content).unwrap().filter.unwrap_or_default();
        self.lists += usize::from(filter.label_selector.is_empty());
        let fits = |it: &&(String, w::PodSandboxConfig, bool, i64)| {
            filter.label_selector.iter().all(|(key, value)| it.1.labels.get(key) == Some(value))
        };
        let mut items: Vec<_> = self.sandboxes.iter().filter(fits).map(listed_sandbox).collect();
        if self.mood == Some(Mood::Raves) {
            items.push(w::PodSandbox { state: 77, created_at: -5, ..w::PodSandbox::default() });
            items.extend(items.clone());
        }
        one(&w::ListPodSandboxResponse { items })
    }

    pub(super) fn list_containers(&mut self, content: Bytes) -> Answer {
        let filter = w::ListContainersRequest::decode(content).unwrap().filter.unwrap_or_default();
        let fits = |it: &&Container| {
            filter
                .label_selector
                .iter()
                .all(|(key, value)| it.config.labels.get(key) == Some(value))
        };
        let listed = |it: &Container| w::Container {
            id: it.id.clone(),
            pod_sandbox_id: it.sandbox.clone(),
            metadata: it.config.metadata.clone(),
            state: it.state.into(),
            created_at: it.times[0],
            labels: it.config.labels.clone(),
            image_ref: it.config.image.clone().unwrap_or_default().image,
            ..w::Container::default()
        };
        let mut containers: Vec<_> = self.containers.iter().filter(fits).map(listed).collect();
        if self.mood == Some(Mood::Raves) {
            containers.push(w::Container {
                state: -3,
                created_at: i64::MIN,
                ..w::Container::default()
            });
            containers.extend(containers.clone());
        }
        one(&w::ListContainersResponse { containers })
    }

    pub(super) fn sandbox_status(&mut self, content: Bytes) -> Answer {
        let id = w::PodSandboxStatusRequest::decode(content).unwrap().pod_sandbox_id;
        if self.mood == Some(Mood::Raves) {
            return one(&w::PodSandboxStatusResponse { status: None });
        }
        let found = self.sandboxes.iter().find(|it| it.0 == id);
        let Some((id, config, ready, at)) = found else { return Answer::Failed(5, "not found") };
        let mut ips = self.addresses.iter().map(|ip| (*ip).to_owned());
        let network = w::PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_else(|| "127.0.0.1".to_owned()),
            additional_ips: ips.map(|ip| w::PodIp { ip }).collect(),
        };
        let status = w::PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: i32::from(!ready),
            created_at: *at,
            network: Some(network),
            ..w::PodSandboxStatus::default()
        };
        one(&w::PodSandboxStatusResponse { status: Some(status) })
    }

    pub(super) fn container_status(&mut self, content: Bytes) -> Answer {
        let id = w::ContainerStatusRequest::decode(content).unwrap().container_id;
        if self.mood == Some(Mood::Raves) {
            let status = w::ContainerStatus {
                id: "other".into(),
                state: 99,
                started_at: i64::MAX,
                finished_at: i64::MIN,
                log_path: "/".into(),
                ..w::ContainerStatus::default()
            };
            return one(&w::ContainerStatusResponse { status: Some(status) });
        }
        let Some(found) = self.containers.iter().find(|it| it.id == id) else {
            return Answer::Failed(5, "not found");
        };
        let [created_at, started_at, finished_at] = found.times;
        let status = w::ContainerStatus {
            id,
            metadata: found.config.metadata.clone(),
            state: found.state.into(),
            created_at,
            started_at,
            finished_at,
            exit_code: found.code,
            image: found.config.image.clone(),
            annotations: found.config.annotations.clone(),
            ..w::ContainerStatus::default()
        };
        one(&w::ContainerStatusResponse { status: Some(status) })
    }
}

fn listed_sandbox(
    (id, config, ready, at): &(String, w::PodSandboxConfig, bool, i64),
) -> w::PodSandbox {
    w::PodSandbox {
        id: id.clone(),
        metadata: config.metadata.clone(),
        state: i32::from(!ready),
        created_at: *at,
        labels: config.labels.clone(),
    }
}
