//! A network of two machines: two namespaces and a cable between them.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Command, Output};

use nix::sched::{CloneFlags, setns};

use crate::operator::unique;
use crate::process::remember_namespace;

/// Two machines, of which nothing reaches this one.
pub(crate) struct Network {
    /// The namespace of the machine with [`Network::GATEWAY`].
    pub(crate) gateway: String,
    /// The namespace of the machine with [`Network::NODE`].
    pub(crate) node: String,
}

impl Network {
    /// The gateway's address.
    pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 1);
    /// The node's address.
    pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 203, 0, 2);

    /// Makes the network; `Err` with the reason where this user or this machine cannot.
    pub(crate) fn new() -> Result<Self, String> {
        let network = Self {
            gateway: unique("oc-gateway"),
            node: unique("oc-node"),
        };
        for name in [&network.gateway, &network.node] {
            ip(&["netns", "add", name])?;
            remember_namespace(name);
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        let cable = [
            "type",
            "veth",
            "peer",
            "name",
            "cable",
            "netns",
            &network.node,
        ];
        let gateway_end = ["link", "add", "cable", "netns", &network.gateway];
        ip(&[&gateway_end[..], &cable[..]].concat())?;
        for (name, address) in [
            (&network.gateway, Self::GATEWAY),
            (&network.node, Self::NODE),
        ] {
            ip(&[
                "-n",
                name,
                "address",
                "add",
                &format!("{address}/30"),
                "dev",
                "cable",
            ])?;
            ip(&["-n", name, "link", "set", "cable", "up"])?;
        }
        Ok(network)
    }

    /// The words before a command that start it on the machine `name`.
    pub(crate) fn launcher(name: &str) -> [&str; 4] {
        ["ip", "netns", "exec", name]
    }

    /// Does `work` on the gateway's machine, on a thread of its own with an arbiter.
    pub(crate) fn on_gateway<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let namespace = File::open(format!("/run/netns/{}", self.gateway)).unwrap();
        let thread = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            actix::System::new().block_on(work())
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let told = |reason: String| format!("ip {}: {reason}", words.join(" "));
    let Output { status, stderr, .. } = Command::new("ip")
        .args(words)
        .output()
        .map_err(|error| told(error.to_string()))?;
    if status.success() {
        Ok(())
    } else {
        Err(told(String::from_utf8_lossy(&stderr).into()))
    }
}
