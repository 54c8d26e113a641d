//! Which modules run for the mesh, and what they are told because it is there.

use std::net::SocketAddr;

use ipc_proto::Module;
use serde_json::{Value, json};

use super::edgecore_yaml::Node;
use super::mesh_yaml::DNS;
use super::supervisor_yaml::Settings;

/// Where the mesh answers names, as EdgeMesh does.
const LISTEN: &str = "169.254.96.16:53";

/// Where edged finds the servers that pods ask.
const CLUSTER_DNS: &str = "/edged/tailoredKubeletConfig/clusterDNS";

/// The files of a node's identity: as the tunnel is told them, and as edgehub has them.
const CERTIFICATES: [(&str, &str); 3] =
    [("ca", "tlsCaFile"), ("certificate", "tlsCertFile"), ("key", "tlsPrivateKeyFile")];

/// Tells whether a module runs: as the files say, and metaserver for the mesh too, which it keeps
/// told of services.
pub(super) fn runs(node: &Node, settings: &Settings, module: Module) -> bool {
    let of_file = |module: Module| {
        settings.modules[module.index()].enabled.unwrap_or(node.enabled.contains(module))
    };
    let own = settings.modules[module.index()].enabled;
    of_file(module) || (module == Module::Metaserver && own.is_none() && of_file(Module::Edgemesh))
}

/// Adds to what a module is told what the mesh needs of it.
pub(super) fn adapt(node: &Node, settings: &Settings, module: Module, section: &mut Value) {
    let with_mesh = runs(node, settings, Module::Edgemesh);
    let own = &settings.modules[Module::Edgemesh.index()].own;
    let listen = own.get("dns").and_then(|dns| dns["listen"].as_str()).unwrap_or(LISTEN);
    if module == Module::Edgemesh {
        let dns = &mut section["dns"];
        if dns.is_null() {
            *dns = json!({});
        }
        dns["listen"] = listen.into();
        section["clusterDomain"] = node.cluster_domain().into();
        if section["tunnel"]["enabled"] == true {
            // nodes know each other by the certificates that edgehub keeps
            for (key, of_hub) in CERTIFICATES {
                let file = node.tree().pointer(&format!("/modules/edgeHub/{of_hub}"));
                section["tunnel"][key] = json!(file);
            }
        }
    }
    if module == Module::Metaserver {
        let asked = settings.modules[module.index()].enabled;
        section["serves"] = asked.unwrap_or(node.enabled.contains(module)).into();
        section["mesh"] = with_mesh.into();
    }
    let listen = listen.parse().ok().filter(|listen: &SocketAddr| listen.port() == DNS);
    if module == Module::Edged
        && with_mesh
        && let Some(listen) = listen
        && let Some(servers) = section.pointer_mut(CLUSTER_DNS)
        && servers.as_array().is_none_or(Vec::is_empty)
    {
        *servers = json!([listen.ip()]);
    }
}
