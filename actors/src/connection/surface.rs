//! Whether the gateway lets invokes through: asked by publishing how the machine does (§11.1).

use std::time::Duration;

use actix::prelude::*;
use protocol::event::NodeEvent;
use protocol::frame::{GatewayError, Method};
use protocol::surface::{SurfaceAnswer, empty_runner_inventory};
use tracing::debug;

use super::Connection;
use super::requests::Pending;
use crate::host_stats;
use crate::jitter;
use crate::pairing::SurfaceKnown;

/// How often host statistics are sent (§11.1).
const HOST_STATS_INTERVAL: Duration = Duration::from_secs(60);
/// Refusals in a row that mean "the surface is pending"; a single one also happens to an approved
/// node right after hello (§10).
const SURFACE_REFUSALS: u32 = 2;

impl Connection {
    /// Tells the gateway how the machine is doing. Its answer also shows whether the surface is
    /// approved, so this is asked more often while it is not.
    pub(super) fn publish_host_stats(&mut self, ctx: &mut Context<Self>) {
        if let Some(stats) = host_stats::read() {
            self.send_event(&NodeEvent::HostStats(stats), Pending::Publication, ctx);
        }
        self.publish_again_after(HOST_STATS_INTERVAL, ctx);
    }

    pub(super) fn publish_again_after(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if let Some(timer) = self.host_stats_timer.take() {
            ctx.cancel_future(timer);
        }
        self.host_stats_timer = Some(ctx.run_later(wait, Self::publish_host_stats));
    }

    pub(super) fn on_publication_answer<P>(
        &mut self,
        result: &Result<P, GatewayError>,
        ctx: &mut Context<Self>,
    ) {
        match SurfaceAnswer::of(result) {
            SurfaceAnswer::Approved => {
                self.surface_refusals = 0;
                self.tell_surface(SurfaceKnown::Approved);
            }
            SurfaceAnswer::Pending { request_id } => {
                self.surface_refusals = self.surface_refusals.saturating_add(1);
                let id_is_new = request_id.is_some();
                if self.surface_refusals == SURFACE_REFUSALS && !id_is_new {
                    let inventory = empty_runner_inventory();
                    let method = Method::NodeRunnerInventoryUpdate;
                    self.request(method, &inventory, Pending::SurfaceRequest, ctx);
                } else if self.surface_refusals >= SURFACE_REFUSALS {
                    self.tell_surface(SurfaceKnown::Pending { request_id });
                }
                let wait = self.surface_polls.next_wait(jitter::random());
                self.publish_again_after(wait, ctx);
            }
            SurfaceAnswer::Unrelated => {
                if let Err(error) = result {
                    debug!(%error, "publication not taken by the gateway");
                }
            }
        }
    }

    pub(super) fn tell_surface(&self, known: SurfaceKnown) {
        if self.options.pairing.try_send(known).is_err() {
            debug!("pairing actor does not take messages");
        }
    }
}
