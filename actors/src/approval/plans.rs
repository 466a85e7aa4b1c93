//! The plans that this node prepared, as the store remembers them (D13).

use ::exec::clearance::{Clearance, Denial};
use ::exec::prepare::Prepared;
use ::exec::request::{RequestError, RunApproval, RunRequest};
use actix::prelude::*;
use approvals::plan::{PlanRecord, PolicySnapshot, SystemRunPlan};
use protocol::invoke::InvokeError;
use state::{Plan, PlanDigest, PlanLookup};

use super::unanswered;
use crate::store::{FindPlan, RememberPlan, Store, StoreError, TakePlan};

fn digest(plan: &SystemRunPlan) -> PlanDigest {
    PlanDigest(plan.digest())
}

/// Gives an approved plan back the snapshot that its gateway dropped, from this node's own record
/// (D13).
pub(super) async fn with_snapshot(
    mut request: RunRequest,
    store: &Addr<Store>,
) -> Result<RunRequest, InvokeError> {
    if !request.approval.is_delayed() {
        return Ok(request);
    }
    let plan = match &mut request.approval {
        RunApproval::Explicit { plan, .. } | RunApproval::AutoReview { plan } => plan,
        RunApproval::None { .. } | RunApproval::AskFallback { .. } => return Ok(request),
    };
    if plan.policy_snapshot.is_some() {
        return Ok(request);
    }
    let found = store
        .send(FindPlan(digest(plan)))
        .await
        .map_err(StoreError::from)??;
    plan.policy_snapshot = match found {
        PlanLookup::Prepared(remembered) => PolicySnapshot::parse(&remembered.policy_snapshot).ok(),
        PlanLookup::Unknown | PlanLookup::Expired => None,
    };
    if plan.policy_snapshot.is_none() {
        return Err(InvokeError::invalid_request(
            RequestError::NoPolicySnapshot.to_string(),
        ));
    }
    Ok(request)
}

/// Takes one use from the plan of an approved run; the inner result is a refusal (D13).
pub(super) async fn use_plan(
    request: &RunRequest,
    clearance: &Clearance,
    store: &Addr<Store>,
) -> Result<Result<(), Denial>, InvokeError> {
    let plan = match &request.approval {
        RunApproval::None { .. } => return Ok(Ok(())),
        RunApproval::Explicit { plan, .. }
        | RunApproval::AskFallback { plan }
        | RunApproval::AutoReview { plan } => plan,
    };
    let Some(cwd) = clearance.verified.cwd_identity() else {
        return Ok(Ok(()));
    };
    let taken = store
        .send(TakePlan(digest(plan)))
        .await
        .map_err(StoreError::from)??;
    let record = match taken {
        PlanLookup::Unknown => PlanRecord::Unknown,
        PlanLookup::Expired => PlanRecord::Expired,
        PlanLookup::Prepared(remembered) => PlanRecord::Prepared {
            cwd: remembered.cwd,
        },
    };
    Ok(record
        .admit(cwd)
        .map_err(|refusal| Denial::approval_required(refusal.to_string())))
}

/// Remembers a plan before anybody is told of it (D13).
pub(super) async fn remember(prepared: &Prepared, store: &Addr<Store>) -> Result<(), InvokeError> {
    let policy_snapshot =
        serde_json::to_value(&prepared.plan.policy_snapshot).map_err(|_| unanswered())?;
    let plan = Plan {
        policy_snapshot,
        cwd: prepared.cwd,
    };
    let remember = RememberPlan {
        digest: digest(&prepared.plan),
        plan,
    };
    Ok(store.send(remember).await.map_err(StoreError::from)??)
}
