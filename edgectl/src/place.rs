//! Which container of a pod is meant.

use crate::cli::Place;
use crate::failure::Failure;
use crate::node::{Node, encoded};

/// The annotation that says which container is meant when none is named.
const DEFAULT: &str = "kubectl.kubernetes.io/default-container";

impl Place {
    /// Returns the part of a target of the node's API that names the container.
    pub(crate) fn path(&self, node: &Node) -> Result<String, Failure> {
        let container = self.container(node)?;
        Ok([&self.namespace, &self.pod, &container].map(|part| encoded(part)).join("/"))
    }

    /// Returns the container's name: the one that is named, the pod's default, or its first.
    #[expect(clippy::print_stderr, reason = "as kubectl it says which of several it took")]
    fn container(&self, node: &Node) -> Result<String, Failure> {
        if let Some(name) = &self.container {
            return Ok(name.clone());
        }
        let list = node.pods()?;
        let (namespace, name) = (&self.namespace, &self.pod);
        let mut pods = list["items"].as_array().into_iter().flatten();
        let meant = pods.find(|pod| {
            let metadata = &pod["metadata"];
            metadata["namespace"] == **namespace && metadata["name"] == **name
        });
        let none =
            || Failure::Failed(format!("there is no pod '{name}' in namespace '{namespace}'"));
        let pod = meant.ok_or_else(none)?;
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let names: Vec<&str> = containers.filter_map(|it| it["name"].as_str()).collect();
        let default = pod["metadata"]["annotations"][DEFAULT].as_str();
        if let Some(default) = default.filter(|default| names.contains(default)) {
            return Ok(default.to_owned());
        }
        let none = || Failure::Failed(format!("pod '{name}' has no containers"));
        let first = names.first().copied().ok_or_else(none)?;
        if names.len() > 1 {
            eprintln!("edgectl: container '{first}' is taken, out of: {}", names.join(", "));
        }
        Ok(first.to_owned())
    }
}
