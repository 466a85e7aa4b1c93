//! Any argv: every view of what stands behind its wrappers is a part of it, and nothing panics.

use approvals::command::{CommandLine, ShellUse};
use approvals::inline_eval;
use approvals::wrapper::{InnerArgv, TrustPlan};

/// What must hold for this input.
pub(crate) fn check(text: &str) {
    let argv: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let Ok(command) = CommandLine::new(argv.clone(), None) else {
        return;
    };
    assert!(CommandLine::new(argv.clone(), Some(command.text())).is_ok());
    if let Some(preview) = command.preview() {
        assert!(CommandLine::new(argv.clone(), Some(preview)).is_ok());
    }

    let plan = TrustPlan::of(&argv);
    assert!(plan.policy_index <= plan.execution_index);
    assert!(plan.execution_index < argv.len());
    assert!(argv.ends_with(plan.policy_argv(&argv)));
    assert!(argv.ends_with(plan.execution_argv(&argv)));
    for wrapper in &plan.wrappers {
        assert!(wrapper.index < plan.execution_index);
    }

    if let ShellUse::Payload(payload) = command.shell() {
        assert!(!payload.text.is_empty());
        if payload.index.is_some() {
            assert_eq!(command.with_payload(&payload.source).as_ref(), Some(&argv));
        }
    }

    let mut inner = InnerArgv::whole(&argv);
    for _ in 0..argv.len() {
        for position in 0..inner.words().len() {
            if let Some(index) = inner.index_of(position) {
                assert_eq!(inner.words()[position], argv[index]);
            }
        }
        let next = inner
            .behind_dispatch()
            .or_else(|| inner.behind_carrier())
            .or_else(|| inner.behind_multiplexer())
            .or_else(|| inner.behind_runner());
        match next {
            Some(next) => inner = next,
            None => break,
        }
    }
    let _ = command.assigned_names();
    let _ = inline_eval::find(&argv);
}
