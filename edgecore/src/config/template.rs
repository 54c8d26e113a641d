//! KubeEdge's defaults as one document, which is printed for the operator and read as what an
//! operator's file is laid over: a default is written once.

use std::net::IpAddr;

use crate::config::host;

/// Every key that edgecore knows, with its default.
const FULL: &str = include_str!("defaults.yaml");

/// The keys that a node is usually given.
const MINIMAL: &str = include_str!("minimal.yaml");

/// Returns the configuration with every default, for this host.
pub(crate) fn full() -> String {
    fill(FULL, &host::node_name(), host::local_ip())
}

/// Returns the configuration with what a node must say, for this host.
pub(crate) fn minimal() -> String {
    fill(MINIMAL, &host::node_name(), host::local_ip())
}

fn fill(template: &str, node: &str, ip: IpAddr) -> String {
    let host = match ip {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    template.replace("@NODE@", node).replace("@HOST@", &host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    #[test]
    fn templates_are_yaml_for_every_host() {
        for ip in [IpAddr::from([192, 0, 2, 7]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])] {
            for template in [FULL, MINIMAL] {
                let text = fill(template, "1", ip);
                let value = yaml::parse(&text).unwrap();
                assert!(!text.contains('@'));
                assert_eq!(value["modules"]["edged"]["hostnameOverride"], "1");
                assert!(
                    value["modules"]["edgeHub"]["httpServer"].as_str().unwrap().ends_with(":10002")
                );
            }
        }
    }
}
