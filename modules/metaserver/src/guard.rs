//! Who asks, and what they may: with the feature gate `requireAuthorization` clients show a
//! certificate of the cluster or the token of a service account, and may do what the roles allow
//! that the cloud sent along with that account. Everything is looked up in the node's store, so it
//! holds without the cloud too.

mod key;
mod rules;
mod token;
pub(crate) mod trial;

use std::path::PathBuf;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap};
use ipc_proto::{Content, Group, Kind, Module, Operation, Resource, Scope};
use serde::Deserialize;
use tokio::sync::watch as state;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::path::{Route, Target, Verb};
use crate::status::Refusal;
use crate::store::Store;
pub(crate) use key::PublicKey;
use rules::Access;
use token::{Account, Token};

/// The group that may do everything, in every cluster.
const MASTERS: &str = "system:masters";

/// The group of all who have said who they are.
const AUTHENTICATED: &str = "system:authenticated";

/// How long the store may take to tell which tokens it has.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// What is asked of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Who issues tokens that count.
    pub(crate) issuers: Vec<String>,
    /// For whom they have to be.
    pub(crate) audiences: Vec<String>,
    /// The keys that tokens are signed with; without any a token counts when the store has it.
    pub(crate) key_files: Vec<PathBuf>,
}

/// How a client came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Through a door that asks nobody who they are.
    Unasked,
    /// Through the socket that root alone can open.
    Root,
    /// Over TLS, with this certificate of the cluster or none.
    Secure(Option<CertificateDer<'static>>),
}

/// Somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

impl User {
    fn anonymous() -> Self {
        let groups = vec!["system:unauthenticated".to_owned()];
        Self { name: "system:anonymous".to_owned(), groups }
    }

    fn known(name: String, mut groups: Vec<String>) -> Self {
        groups.push(AUTHENTICATED.to_owned());
        Self { name, groups }
    }

    /// Reads who a certificate is of: the common name is the user's, organizations are groups.
    fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let groups = subject.iter_organization().filter_map(|it| it.as_str().ok());
        Some(Self::known(name.to_owned(), groups.map(str::to_owned).collect()))
    }

    fn of_account(account: &Account) -> Self {
        let Account { namespace, name, .. } = account;
        let groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
        Self::known(format!("system:serviceaccount:{namespace}:{name}"), groups)
    }
}

/// Looks at who asks.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    settings: Arc<Settings>,
    keys: state::Receiver<Arc<[PublicKey]>>,
    store: Store,
}

impl Guard {
    pub(crate) fn new(
        settings: Settings,
        keys: state::Receiver<Arc<[PublicKey]>>,
        store: Store,
    ) -> Self {
        Self { settings: Arc::new(settings), keys, store }
    }

    /// Lets a request pass, or says why not. What there is, and whether it works, everybody may ask.
    ///
    /// # Errors
    /// 401 when it is not clear who asks, 403 when they may not, 503 when the store does not tell.
    pub(crate) async fn admit(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        route: &Route,
    ) -> Result<(), Refusal> {
        let user = match caller {
            Caller::Unasked | Caller::Root => return Ok(()),
            Caller::Secure(certificate) => self.user(certificate.as_ref(), headers).await?,
        };
        let Route::Objects(verb, target) = route else { return Ok(()) };
        if user.groups.iter().any(|group| group == MASTERS)
            || self.may(&user, *verb, target).await?
        {
            return Ok(());
        }
        Err(Refusal::forbidden(&user.name, verb.word(), target))
    }

    async fn user(
        &self,
        certificate: Option<&CertificateDer<'_>>,
        headers: &HeaderMap,
    ) -> Result<User, Refusal> {
        let Some(header) = headers.get(AUTHORIZATION) else {
            return match certificate {
                Some(certificate) => User::of_certificate(certificate)
                    .ok_or_else(|| Refusal::unauthorized("the certificate names nobody")),
                None => Ok(User::anonymous()),
            };
        };
        let (scheme, text) =
            header.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::unauthorized("only bearer tokens are taken"));
        }
        let account = self.account(text.trim()).await?;
        Ok(User::of_account(&account))
    }

    /// Finds the service account that a token is of.
    async fn account(&self, text: &str) -> Result<Account, Refusal> {
        let refused = Refusal::unauthorized;
        let token = Token::parse(text).map_err(refused)?;
        let seconds = module_runtime::unix_millis() / 1000;
        token.check(&self.settings, seconds).map_err(refused)?;
        let keys = Arc::clone(&self.keys.borrow());
        if !keys.is_empty() {
            token.verify(&keys).map_err(refused)?;
        } else if !self.is_stored(text).await? {
            return Err(refused("the token is none that this node was given"));
        }
        let account = token.account().map_err(refused)?;
        self.stands(&account).await?;
        Ok(account)
    }

    /// Tells whether a token is one of those that the cloud gave to this node's pods.
    async fn is_stored(&self, text: &str) -> Result<bool, Refusal> {
        #[derive(Deserialize)]
        struct Request {
            #[serde(default)]
            status: Status,
        }
        #[derive(Default, Deserialize)]
        struct Status {
            #[serde(default)]
            token: String,
        }
        let away = |why: String| Refusal::unavailable(format!("the store does not answer: {why}"));
        let peers = &self.store.0;
        let resource =
            Resource::Object { scope: Scope::Cluster, kind: Kind::ServiceAccountToken, name: None };
        let query = peers.message(Group::Meta, Operation::Query, resource, Content::NULL);
        let answer = peers.request(Module::Metamanager, query, PATIENCE).await;
        let content = answer.map_err(|error| away(error.to_string()))?.take().content;
        let stored: Vec<Request> = content.decode().map_err(|error| away(error.to_string()))?;
        // Whoever measures how long this takes learns nothing of a signature.
        let of = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let wanted = of(text);
        Ok(stored.iter().any(|it| of(&it.status.token).as_ref() == wanted.as_ref()))
    }

    /// Checks that what a token is bound to is still what it was.
    async fn stands(&self, account: &Account) -> Result<(), Refusal> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Object {
            metadata: Metadata,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Metadata {
            uid: String,
        }
        let Account { namespace, name, uid, .. } = account;
        let mut known = false;
        self.accesses(|access| known |= access.is_of(namespace, name, uid)).await?;
        if !known {
            let why = format!("this node knows no service account {namespace}/{name} of uid {uid}");
            return Err(Refusal::unauthorized(&why));
        }
        for (plural, bound) in [("pods", &account.pod), ("secrets", &account.secret)] {
            let Some((name, uid)) = bound else { continue };
            let key = format!("/core/v1/{plural}/{namespace}/{name}");
            let found = self.store.one(&key).await?.unwrap_or_default();
            let found: Object = serde_json::from_slice(&found).unwrap_or_default();
            if found.metadata.uid != *uid {
                let why = format!("the token's {plural} {namespace}/{name} is gone");
                return Err(Refusal::unauthorized(&why));
            }
        }
        Ok(())
    }

    async fn may(&self, user: &User, verb: Verb, target: &Target) -> Result<bool, Refusal> {
        let mut allowed = false;
        self.accesses(|access| allowed = allowed || access.allows(user, verb, target)).await?;
        Ok(allowed)
    }

    /// Looks at all that the cloud said of the node's service accounts.
    async fn accesses(&self, mut look: impl FnMut(&Access)) -> Result<(), Refusal> {
        let of = "/policy.kubeedge.io/v1alpha1/serviceaccountaccesses/";
        let mut after = String::new();
        loop {
            let page = self.store.page(of, &after).await?;
            let rows = page.rows()?;
            for (key, object) in &rows.rows {
                match serde_json::from_str(object.get()) {
                    Ok(access) => look(&access),
                    Err(error) => tracing::warn!(key, %error, "cannot read who may do what"),
                }
            }
            let Some(last) = rows.rest() else { return Ok(()) };
            after = last;
        }
    }
}
