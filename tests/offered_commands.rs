//! Which commands a node offers: those of `--commands`, until `--all-commands`, and no others even
//! when a gateway asks.

#![cfg(test)]

mod common;

use common::home::Home;
use common::{CONNECTED, DEADLINE, back_after, gateway, invoke};
use serde_json::json;

#[tokio::test]
async fn only_the_listed_commands_are_offered_until_all_are_again() {
    let gateway = gateway().await;
    let home = Home::new();
    let node = home
        .run(gateway.port())
        .arg("--commands")
        .arg("system.which, system.which,not.there")
        .start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    node.line(CONNECTED).await;
    assert_eq!(view.commands, ["system.which"]);
    let run = json!({ "command": ["true"] });
    let refused = invoke::call(&gateway, &view, "system.run", &run).await;
    assert_eq!(refused.error(), ("UNAVAILABLE", "command not supported"));
    let which = invoke::call(&gateway, &view, "system.which", &json!({ "bins": ["sh"] })).await;
    assert!(which.is_ok(), "{:?}", which.result);
    node.stop().await;

    // Saved, and still in force.
    let node = home.run(gateway.port()).start();
    let again = back_after(&gateway, view.connection).await;
    assert_eq!(again.commands, ["system.which"]);
    node.stop().await;

    let node = home.run(gateway.port()).arg("--all-commands").start();
    let all = gateway
        .wait_for(DEADLINE, |snapshot| {
            let params = snapshot.connects().last()?;
            let commands = params.get("commands")?.as_array()?;
            (commands.len() > 1).then_some(commands.len())
        })
        .await
        .unwrap();
    assert!(all > 1);
    node.stop().await;
}

#[tokio::test]
async fn wrong_lists_are_refused_in_upstreams_words() {
    for (flags, text) in [
        (
            &["--commands", "a,,b"] as &[_],
            "--commands requires comma-separated non-empty command ids\n",
        ),
        (
            &["--commands", "a", "--all-commands"],
            "--all-commands cannot be combined with --commands\n",
        ),
    ] {
        let home = Home::new();
        let arguments = ["run"].iter().chain(flags);
        let output = home.program(arguments).output().await;
        assert_eq!(String::from_utf8(output.stderr).unwrap(), text);
        assert_eq!(output.status.code(), Some(1));
        assert!(!home.state_dir().exists());
    }
}
