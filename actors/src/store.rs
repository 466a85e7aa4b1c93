//! Store: the only writer of the state database while the node runs.
//!
//! It lives on a thread of its own, because a disk may take its time. Whoever asks awaits the
//! answer, and by then what was written is written.

use std::path::PathBuf;

use actix::prelude::*;
use node_config::{Fingerprint, GatewayScope, PlannedEndpoint};
use secrecy::{ExposeSecret as _, SecretString};
use state::{
    Database, DeviceTokenKey, JournalBounds, JournalEntry, Plan, PlanDigest, PlanLookup,
    PresentedCredential, Replacement, RunResult, StateError,
};
use tracing::error;

use crate::clock;
use crate::threads;
use crate::watchdog::{Health, Probe};

/// Why the store cannot answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database refused.
    #[error("{0}")]
    Database(String),
    /// The store is gone or does not take messages.
    #[error("the state database does not answer: {0}")]
    Mailbox(String),
}

impl From<StateError> for StoreError {
    fn from(error: StateError) -> Self {
        Self::Database(error.to_string())
    }
}

impl From<MailboxError> for StoreError {
    fn from(error: MailboxError) -> Self {
        Self::Mailbox(error.to_string())
    }
}

type StoreResult<T> = Result<T, StoreError>;

/// The endpoint as the state database keeps it.
#[must_use]
pub fn endpoint_to_save(endpoint: &PlannedEndpoint) -> state::SavedEndpoint {
    let endpoint = endpoint.to_saved();
    state::SavedEndpoint {
        host: endpoint.host,
        port: endpoint.port,
        tls: endpoint.tls,
        tls_fingerprint: endpoint.fingerprint.as_ref().map(Fingerprint::to_string),
        context_path: endpoint.context_path,
    }
}

/// Which tokens a node uses: those of one device and role, issued by one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct TokenScope {
    /// The device's id.
    pub(crate) device_id: String,
    /// The endpoint.
    pub(crate) gateway_scope: GatewayScope,
}

impl TokenScope {
    fn key(&self) -> DeviceTokenKey<'_> {
        DeviceTokenKey {
            device_id: &self.device_id,
            role: protocol::connect::ROLE,
            gateway_scope: self.gateway_scope.as_str(),
        }
    }
}

/// Keeps the device token that a hello brought.
#[derive(Debug, Message)]
#[rtype(result = "StoreResult<()>")]
pub(crate) struct StoreDeviceToken {
    pub(crate) scope: TokenScope,
    pub(crate) token: SecretString,
    /// The gateway that issued it, which the next start goes to.
    pub(crate) endpoint: PlannedEndpoint,
}

/// Forgets a device token, if it is still the one given.
#[derive(Debug, Message)]
#[rtype(result = "StoreResult<bool>")]
pub(crate) struct ClearDeviceToken {
    pub(crate) scope: TokenScope,
    pub(crate) token: SecretString,
}

/// Remembers a terminal auth failure (D19).
#[derive(Debug, Message)]
#[rtype(result = "StoreResult<()>")]
pub(crate) struct RecordAuthFailure {
    pub(crate) gateway_scope: GatewayScope,
    pub(crate) secrets: Vec<SecretString>,
    pub(crate) detail_code: String,
}

/// Forgets the last terminal auth failure: a connect succeeded.
#[derive(Debug, Message)]
#[rtype(result = "StoreResult<()>")]
pub(crate) struct ClearAuthFailure;

/// Replaces the approvals document, if it still is the expected one.
///
/// Both texts may hold the socket's token.
#[derive(Debug, Message)]
#[rtype(result = "StoreResult<Replacement>")]
pub(crate) struct ReplaceApprovals {
    pub(crate) text: SecretString,
    pub(crate) expected: Option<SecretString>,
}

/// Remembers a plan that was prepared (D13).
#[derive(Debug, Message)]
#[rtype(result = "StoreResult<()>")]
pub(crate) struct RememberPlan {
    pub(crate) digest: PlanDigest,
    pub(crate) plan: Plan,
}

/// Looks a plan up without using it.
#[derive(Debug, Message)]
#[rtype(result = "StoreResult<PlanLookup>")]
pub(crate) struct FindPlan(pub(crate) PlanDigest);

/// Takes one use from a plan.
#[derive(Debug, Message)]
#[rtype(result = "StoreResult<PlanLookup>")]
pub(crate) struct TakePlan(pub(crate) PlanDigest);

/// Writes what happened to runs.
#[derive(Debug, Message)]
#[rtype(result = "StoreResult<()>")]
pub(crate) struct WriteJournal {
    pub(crate) entries: Vec<JournalEntry>,
    pub(crate) bounds: JournalBounds,
}

/// Notes that everything that earlier processes of this node left running is ended.
#[derive(Debug, Message)]
#[rtype(result = "StoreResult<()>")]
pub(crate) struct CloseJournal(pub(crate) Vec<u32>);

/// Looks up what a run was answered with, by the digest of its idempotency key.
#[derive(Debug, Message)]
#[rtype(result = "StoreResult<Option<RunResult>>")]
pub(crate) struct FindResult(pub(crate) [u8; 32]);

/// Notes that the node lives.
#[derive(Debug, Message)]
#[rtype(result = "StoreResult<()>")]
pub(crate) struct NoteAlive;

/// The store actor.
pub(crate) struct Store {
    state_dir: PathBuf,
    /// Opened on first use, on the store's own thread; the process opened and checked the same
    /// database before it started the actors, so a failure here is a disk that went away since.
    database: Option<Database>,
}

impl Store {
    /// Starts the store on its own thread.
    pub(crate) fn launch(state_dir: PathBuf) -> Addr<Self> {
        SyncArbiter::start(1, move || Self {
            state_dir: state_dir.clone(),
            database: None,
        })
    }

    fn database(&mut self) -> StoreResult<&mut Database> {
        match &mut self.database {
            Some(database) => Ok(database),
            empty @ None => {
                threads::name_current(c"store");
                let database = Database::open(&self.state_dir).inspect_err(|error| {
                    error!(%error, "state database cannot be opened");
                })?;
                Ok(empty.insert(database))
            }
        }
    }
}

impl Actor for Store {
    type Context = SyncContext<Self>;
}

impl Handler<StoreDeviceToken> for Store {
    type Result = StoreResult<()>;

    fn handle(&mut self, message: StoreDeviceToken, _: &mut Self::Context) -> Self::Result {
        let key = message.scope.key();
        let endpoint = endpoint_to_save(&message.endpoint);
        self.database()?
            .keep_pairing(key, &message.token, &endpoint, clock::unix_ms())?;
        Ok(())
    }
}

impl Handler<ClearDeviceToken> for Store {
    type Result = StoreResult<bool>;

    fn handle(&mut self, message: ClearDeviceToken, _: &mut Self::Context) -> Self::Result {
        Ok(self
            .database()?
            .clear_device_token_if(message.scope.key(), &message.token)?)
    }
}

impl Handler<RecordAuthFailure> for Store {
    type Result = StoreResult<()>;

    fn handle(&mut self, message: RecordAuthFailure, _: &mut Self::Context) -> Self::Result {
        let secrets: Vec<&SecretString> = message.secrets.iter().collect();
        let credential = PresentedCredential {
            gateway_scope: message.gateway_scope.as_str(),
            secrets: &secrets,
        };
        let now = clock::unix_ms();
        self.database()?
            .record_auth_failure(&message.detail_code, credential, now)?;
        Ok(())
    }
}

impl Handler<ClearAuthFailure> for Store {
    type Result = StoreResult<()>;

    fn handle(&mut self, _: ClearAuthFailure, _: &mut Self::Context) -> Self::Result {
        Ok(self.database()?.clear_auth_failure()?)
    }
}

impl Handler<ReplaceApprovals> for Store {
    type Result = StoreResult<Replacement>;

    fn handle(&mut self, message: ReplaceApprovals, _: &mut Self::Context) -> Self::Result {
        let expected = message.expected.as_ref().map(|text| text.expose_secret());
        let text = message.text.expose_secret();
        Ok(self
            .database()?
            .replace_approvals(text, expected, clock::unix_ms())?)
    }
}

impl Handler<RememberPlan> for Store {
    type Result = StoreResult<()>;

    fn handle(&mut self, message: RememberPlan, _: &mut Self::Context) -> Self::Result {
        self.database()?
            .remember_plan(&message.digest, &message.plan, clock::unix_ms())?;
        Ok(())
    }
}

impl Handler<FindPlan> for Store {
    type Result = StoreResult<PlanLookup>;

    fn handle(&mut self, message: FindPlan, _: &mut Self::Context) -> Self::Result {
        Ok(self.database()?.plan(&message.0, clock::unix_ms())?)
    }
}

impl Handler<TakePlan> for Store {
    type Result = StoreResult<PlanLookup>;

    fn handle(&mut self, message: TakePlan, _: &mut Self::Context) -> Self::Result {
        Ok(self.database()?.take_plan(&message.0, clock::unix_ms())?)
    }
}

impl Handler<WriteJournal> for Store {
    type Result = StoreResult<()>;

    fn handle(&mut self, message: WriteJournal, _: &mut Self::Context) -> Self::Result {
        let WriteJournal { entries, bounds } = message;
        Ok(self
            .database()?
            .write_journal(&entries, bounds, clock::unix_ms())?)
    }
}

impl Handler<CloseJournal> for Store {
    type Result = StoreResult<()>;

    fn handle(&mut self, message: CloseJournal, _: &mut Self::Context) -> Self::Result {
        for instance in message.0 {
            self.database()?
                .close_journal_of(instance, clock::unix_ms())?;
        }
        Ok(())
    }
}

impl Handler<FindResult> for Store {
    type Result = StoreResult<Option<RunResult>>;

    fn handle(&mut self, message: FindResult, _: &mut Self::Context) -> Self::Result {
        Ok(self.database()?.result_of(&message.0, clock::unix_ms())?)
    }
}

impl Handler<NoteAlive> for Store {
    type Result = StoreResult<()>;

    fn handle(&mut self, _: NoteAlive, _: &mut Self::Context) -> Self::Result {
        Ok(self.database()?.note_alive(clock::unix_ms())?)
    }
}

impl Handler<Probe> for Store {
    type Result = Health;

    fn handle(&mut self, _: Probe, _: &mut Self::Context) -> Health {
        Health::Well
    }
}
