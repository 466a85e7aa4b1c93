//! Snapshots of a page (browser proxy §5).

pub mod refs;

use crate::request::{Reply, Request, RouteError};
use crate::routes::Page;

/// `GET /snapshot`.
///
/// # Errors
/// [`RouteError`].
pub async fn snapshot(_: &Page, _: &Request) -> Reply {
    Err(RouteError::new(501, "snapshots are not built yet"))
}
