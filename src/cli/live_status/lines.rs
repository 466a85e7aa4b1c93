//! What `status` prints of the node, for people.

use std::fmt::Display;
use std::time::{Duration, UNIX_EPOCH};

use actors::status::{NodeState, NodeStatus};

/// The lines of a node; none for one that never ran.
pub(in crate::cli) fn lines(status: &NodeStatus, now_ms: u64) -> Vec<String> {
    let NodeStatus {
        state,
        gateway,
        since,
        generation,
        last_close,
        last_failure,
        next_retry_at,
        pending,
        running,
        queued,
        credential_source,
        last_exit,
        pid,
        reason,
    } = status;
    if *state == Some(NodeState::Stopped) && last_exit.is_none() && reason.is_none() {
        return Vec::new();
    }
    let mut node = format!("Node: {}", in_words(*state));
    if let Some(since) = since {
        node += &format!(" since {} ({})", time(*since), ago(*since, now_ms));
    }
    let details = [
        pid.map(|pid| format!("pid {pid}")),
        generation.map(|generation| format!("connection {generation}")),
    ];
    for detail in details.into_iter().flatten() {
        node += &format!(", {detail}");
    }
    let mut lines = vec![node];
    let mut line = |name: &str, text: Option<String>| {
        lines.extend(text.map(|text| format!("{name}: {text}")));
    };
    line("Why", reason.clone());
    line(
        "Approve on the gateway",
        pending.as_ref().map(|pending| pending.command.clone()),
    );
    line(
        "Gateway",
        gateway.url.as_ref().map(|url| match &gateway.version {
            Some(version) => format!("{url} (version {version})"),
            None => url.clone(),
        }),
    );
    line(
        "Next attempt",
        next_retry_at.map(|at| format!("in {}", span(at.saturating_sub(now_ms)))),
    );
    line(
        "Last failure",
        last_failure
            .as_ref()
            .map(|failure| format!("{}, {}", failure.message, ago(failure.at, now_ms))),
    );
    line(
        "Last close",
        last_close.as_ref().map(|close| {
            let reason = match close.reason.as_str() {
                "" => "no close reason",
                reason => reason,
            };
            format!("{} {reason}, {}", close.code, ago(close.at, now_ms))
        }),
    );
    line(
        "Commands",
        running
            .zip(*queued)
            .map(|(running, queued)| format!("{running} running, {queued} queued")),
    );
    line("Credential", credential_source.clone());
    line(
        "Last exit",
        last_exit.as_ref().map(|exit| {
            let code = match exit.code {
                Some(code) => format!("code {code}, "),
                None => String::new(),
            };
            let when = match exit.code {
                Some(_) => ago(exit.at, now_ms),
                None => format!("last seen alive {}", ago(exit.at, now_ms)),
            };
            format!("{code}{}, {when}", exit.reason)
        }),
    );
    for line in &mut lines {
        // A gateway wrote a part of it, and must not steer the terminal.
        line.retain(|character| !character.is_control());
    }
    lines
}

const fn in_words(state: Option<NodeState>) -> &'static str {
    match state {
        Some(NodeState::Connecting) => "connecting",
        Some(NodeState::Connected) => "connected",
        Some(NodeState::AwaitingPairing) => "waiting for approval of this device",
        Some(NodeState::AwaitingSurface) => "connected, waiting for approval of its commands",
        Some(NodeState::Paused) => "paused",
        Some(NodeState::Stopped) => "stopped",
        None => "not answering",
    }
}

fn time(unix_ms: u64) -> impl Display {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(unix_ms))
}

fn ago(unix_ms: u64, now_ms: u64) -> String {
    format!("{} ago", span(now_ms.saturating_sub(unix_ms)))
}

/// A span in whole seconds, of which only the two largest units are of interest.
fn span(millis: u64) -> String {
    let whole = Duration::from_secs(millis / 1000);
    let text = humantime::format_duration(whole).to_string();
    let units: Vec<&str> = text.split(' ').take(2).collect();
    units.join(" ")
}

#[cfg(test)]
mod tests {
    use actors::status::{GatewayStatus, LastClose, LastExit, LastFailure, PendingApproval};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn a_node_that_never_ran_has_no_lines() {
        assert_eq!(lines(&NodeStatus::stopped(), NOW), Vec::<String>::new());
    }

    #[test]
    fn a_node_that_is_down_says_since_when_and_why() {
        let exit = LastExit {
            code: Some(1),
            reason: "refused\u{1b}[2J".to_owned(),
            at: NOW - 3_723_000,
        };
        let down = NodeStatus {
            since: Some(exit.at),
            last_exit: Some(exit),
            ..NodeStatus::stopped()
        };
        assert_eq!(
            lines(&down, NOW),
            [
                "Node: stopped since 2027-01-15T06:57:57Z (1h 2m ago)",
                "Last exit: code 1, refused[2J, 1h 2m ago",
            ]
        );
        let killed = NodeStatus {
            last_exit: Some(LastExit {
                code: None,
                reason: "it was killed".to_owned(),
                at: NOW - 5_000,
            }),
            ..NodeStatus::stopped()
        };
        assert_eq!(
            lines(&killed, NOW),
            [
                "Node: stopped",
                "Last exit: it was killed, last seen alive 5s ago"
            ]
        );
    }

    #[test]
    fn a_running_node_shows_everything_that_it_says() {
        let running = NodeStatus {
            state: Some(NodeState::AwaitingSurface),
            gateway: GatewayStatus {
                url: Some("ws://h:1".to_owned()),
                version: Some("2026.9.6".to_owned()),
            },
            since: Some(NOW - 60_000),
            generation: Some(4),
            last_close: Some(LastClose {
                code: 1012,
                reason: String::new(),
                at: NOW - 61_000,
            }),
            last_failure: Some(LastFailure {
                message: "closed".to_owned(),
                at: NOW - 61_000,
            }),
            next_retry_at: Some(NOW + 2_500),
            pending: Some(PendingApproval {
                request_id: Some("r".to_owned()),
                command: "openclaw nodes approve r".to_owned(),
            }),
            running: Some(2),
            queued: Some(1),
            credential_source: Some("env".to_owned()),
            pid: Some(77),
            ..NodeStatus::stopped()
        };
        assert_eq!(
            lines(&running, NOW),
            [
                "Node: connected, waiting for approval of its commands since 2027-01-15T07:59:00Z (1m ago), pid 77, connection 4",
                "Approve on the gateway: openclaw nodes approve r",
                "Gateway: ws://h:1 (version 2026.9.6)",
                "Next attempt: in 2s",
                "Last failure: closed, 1m 1s ago",
                "Last close: 1012 no close reason, 1m 1s ago",
                "Commands: 2 running, 1 queued",
                "Credential: env",
            ]
        );
    }
}
