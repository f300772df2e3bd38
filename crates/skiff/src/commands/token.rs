//! `skiff token create|list|delete|rotate`
//!
//! A token is a Secret of type `bootstrap.kubernetes.io/token`, so that
//! upstream's tools see it too; what is printed has the CA's hash in front.

use std::error::Error;

use api_object::{Object, time};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::{DeleteOptions, ListOptions, Resource};
use jiff::Timestamp;
use pki::join_token::{AGENTS_GROUP, JoinToken, SERVERS_GROUP};
use serde_json::{Value, json};

use crate::{
    admin::{self, Admin},
    columns,
    config::lifetime,
    flags::{UsageError, Values},
    server::join,
};

const SECRETS: Resource = Resource::namespaced("", "v1", "secrets");
const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // What is wrong with the words is said before a server is asked.
    let work = match words.as_slice() {
        ["create"] => Work::Create(Wish::new(&values, Timestamp::now())?),
        ["list" | "ls"] => Work::List { json: super::wants_json(&values)? },
        ["delete" | "rm", ids @ ..] if !ids.is_empty() => {
            Work::Delete(ids.iter().map(|id| id_of(id)).collect::<Result<_, _>>()?)
        }
        ["rotate", id] => Work::Rotate(id_of(id)?),
        _ => {
            let words = "say `create`, `list`, `delete ID…` or `rotate ID`";
            return Err(Box::new(UsageError(words.into())));
        }
    };
    runtime.block_on(async {
        let admin =
            admin::open(&admin::find(&values).file).map_err(|error| -> Box<dyn Error> { error })?;
        match work {
            Work::Create(wish) => println!("{}", create(&admin, &wish).await?),
            Work::List { json: false } => {
                print!("{}", table(&list(&admin).await?, Timestamp::now()));
            }
            Work::List { json: true } => {
                let rows: Vec<Value> = list(&admin).await?.iter().map(Row::json).collect();
                println!("{:#}", Value::from(rows));
            }
            Work::Delete(ids) => {
                // All are looked for before the first is deleted.
                for id in &ids {
                    find(&admin, id).await?;
                }
                for id in ids {
                    delete(&admin, &id).await?;
                    println!("deleted {id}");
                }
            }
            Work::Rotate(id) => {
                let old = row(&find(&admin, &id).await?);
                if old.has_expired(Timestamp::now()) {
                    return Err(format!(
                        "token {id} has expired, and so would the new one; make one with `skiff \
                         token create`"
                    )
                    .into());
                }
                let new = create(&admin, &old.wish).await?;
                println!("{new}");
                match join::keep_instead(&old.wish.description, &id, &new) {
                    Ok(Some(file)) => eprintln!("{} has the new one", file.display()),
                    Ok(None) => {}
                    Err(what) => eprintln!("skiff token: {what}"),
                }
                // Machines have joined with it; only those to come need the new one.
                delete(&admin, &id).await?;
            }
        }
        Ok(())
    })
}

enum Work {
    Create(Wish),
    List { json: bool },
    Delete(Vec<String>),
    Rotate(String),
}

/// What a token shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    servers: bool,
    description: String,
    /// `None` for ever.
    until: Option<Timestamp>,
}

impl Wish {
    fn new(values: &Values, now: Timestamp) -> Result<Self, UsageError> {
        let ttl = values.one("ttl").unwrap_or_default();
        let life = lifetime(ttl).ok_or_else(|| {
            UsageError(format!(
                "--ttl: \"{ttl}\" is not a time such as 30m, 24h or 7d; 0 is for ever"
            ))
        })?;
        let until = match life.is_zero() {
            true => None,
            false => Some(
                now.checked_add(life)
                    .map_err(|_| UsageError(format!("--ttl: {ttl} is too long")))?,
            ),
        };
        let servers = match values.one("usage").unwrap_or_default() {
            "agent" => false,
            "server" => true,
            other => {
                return Err(UsageError(format!("--usage: \"{other}\" is not agent or server")));
            }
        };
        let description = values.one("description").unwrap_or_default().to_owned();
        Ok(Self { servers, description, until })
    }

    /// What may join with it, as `--usage` has it.
    fn usage(&self) -> &'static str {
        if self.servers { "server" } else { "agent" }
    }

    fn secret(&self, token: &JoinToken) -> Value {
        let groups = if self.servers {
            format!("{AGENTS_GROUP},{SERVERS_GROUP}")
        } else {
            AGENTS_GROUP.to_owned()
        };
        let mut data = json!({
            "token-id": token.id,
            "token-secret": token.secret,
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": groups,
        });
        if !self.description.is_empty() {
            data["description"] = json!(self.description);
        }
        if let Some(until) = self.until {
            data["expiration"] = json!(time::format_seconds(until));
        }
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": TYPE,
            "metadata": {"name": name(&token.id), "namespace": NAMESPACE},
            "stringData": data,
        })
    }
}

fn name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// A token's ID, given as such or within the whole token.
fn id_of(text: &str) -> Result<String, UsageError> {
    let id = match text.parse::<JoinToken>() {
        Ok(token) => token.id,
        Err(_) => text.to_owned(),
    };
    let fits = id.len() == 6 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    fits.then_some(id).ok_or_else(|| {
        UsageError(format!(
            "\"{text}\" is not the ID of a token: six of a-z0-9, as `skiff token list` shows"
        ))
    })
}

async fn create(admin: &Admin, wish: &Wish) -> Result<JoinToken, Box<dyn Error>> {
    let random = ring::rand::SystemRandom::new();
    let token = JoinToken::generate(pki::client_key::ca_hash(&admin.ca_pem)?, &random)?;
    let made = admin.api.create(SECRETS, NAMESPACE, &wish.secret(&token)).await;
    made.map_err(|error| admin.explained(&error))?;
    Ok(token)
}

async fn list(admin: &Admin) -> Result<Vec<Row>, Box<dyn Error>> {
    let options = ListOptions { field_selector: format!("type={TYPE}"), ..ListOptions::default() };
    let found = admin.api.list(SECRETS, NAMESPACE, &options).await;
    let found = found.map_err(|error| admin.explained(&error))?;
    let mut rows = Vec::new();
    for item in found.items {
        rows.push(row(&serde_json::from_slice(&item)?));
    }
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(rows)
}

async fn find(admin: &Admin, id: &str) -> Result<Value, Box<dyn Error>> {
    let found: Object = admin.api.get(SECRETS, NAMESPACE, &name(id)).await.map_err(|error| {
        match error.is_not_found() {
            true => format!("there is no token {id}; `skiff token list` shows those there are"),
            false => admin.explained(&error),
        }
    })?;
    Ok(serde_json::from_slice(&found.bytes)?)
}

async fn delete(admin: &Admin, id: &str) -> Result<(), Box<dyn Error>> {
    match admin.api.delete(SECRETS, NAMESPACE, &name(id), &DeleteOptions::default()).await {
        Err(error) if error.is_not_found() => {
            Err(format!("there is no token {id}; `skiff token list` shows those there are").into())
        }
        result => Ok(result.map(drop).map_err(|error| admin.explained(&error))?),
    }
}

/// A token as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    id: String,
    wish: Wish,
}

impl Row {
    /// Without its secret, as the table is; `expires` is null for ever.
    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "usage": self.wish.usage(),
            "expires": self.wish.until.map(time::format_seconds),
            "description": self.wish.description,
        })
    }

    fn has_expired(&self, now: Timestamp) -> bool {
        self.wish.until.is_some_and(|until| until <= now)
    }
}

fn row(secret: &Value) -> Row {
    let field = |key: &str| -> String {
        let bytes = secret["data"][key].as_str().and_then(|text| STANDARD.decode(text).ok());
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
    };
    let groups = field("auth-extra-groups");
    Row {
        id: field("token-id"),
        wish: Wish {
            servers: groups.split(',').any(|group| group == SERVERS_GROUP),
            description: field("description"),
            until: match field("expiration") {
                text if text.is_empty() => None,
                // What is no time has expired, as upstream has it.
                text => Some(time::parse(&text).unwrap_or(Timestamp::UNIX_EPOCH)),
            },
        },
    }
}

fn table(rows: &[Row], now: Timestamp) -> String {
    let mut lines = vec![["ID", "USAGE", "EXPIRES", "DESCRIPTION"].map(str::to_owned)];
    for Row { id, wish } in rows {
        let expires = match wish.until {
            None => "never".to_owned(),
            Some(until) if until <= now => "expired".to_owned(),
            Some(until) => time::format_seconds(until),
        };
        lines.push([id.clone(), wish.usage().into(), expires, wish.description.clone()]);
    }
    columns::lay_out(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{self, Commands};

    fn wish(line: &str) -> Result<Wish, UsageError> {
        let args = line.split_whitespace().map(Into::into);
        let (values, _) = flags::parse_args(Commands::TOKEN, args)?.expect("no help asked");
        Wish::new(&values, "2026-01-01T00:00:00Z".parse().expect("a time"))
    }

    #[test]
    fn times_are_read() {
        let seconds = |text| lifetime(text).map(|life| life.as_secs());
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("7d"), Some(7 * 24 * 3600));
        assert_eq!(seconds("0"), Some(0));
        for junk in ["", "7", "d", "-1h", "1w", "1h30m", "99999999999999999999d"] {
            assert_eq!(lifetime(junk), None, "{junk}");
        }
        let far = wish("--ttl 999999999d").expect_err("no such time");
        assert!(far.0.contains("--ttl"), "{far}");
    }

    #[test]
    fn what_is_wished_is_what_is_listed() {
        let random = ring::rand::SystemRandom::new();
        let token = JoinToken::generate([1; 32], &random).expect("random");
        for line in ["", "--ttl 0", "--usage server --description rack", "--ttl 30m"] {
            let wish = wish(line).expect(line);
            let mut secret = wish.secret(&token);
            let texts = secret["stringData"].as_object().expect("a map").clone();
            for (key, text) in texts {
                secret["data"][key] = STANDARD.encode(text.as_str().expect("a text")).into();
            }
            assert_eq!(row(&secret), Row { id: token.id.clone(), wish }, "{line}");
        }
        assert!(wish("--usage admin").expect_err("no such").0.contains("--usage"));
    }

    #[test]
    fn tokens_are_listed_without_their_secret() {
        let row = |id: &str, line: &str| Row { id: id.into(), wish: wish(line).expect(line) };
        let rows = [row("abcdef", "--ttl 0 --usage server"), row("ghijkl", "--description pi")];
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        assert_eq!(
            table(&rows, now),
            "ID      USAGE   EXPIRES               DESCRIPTION\n\
             abcdef  server  never\n\
             ghijkl  agent   2026-01-02T00:00:00Z  pi\n"
        );
        assert_eq!(
            rows[1].json(),
            json!({"id": "ghijkl", "usage": "agent", "expires": "2026-01-02T00:00:00Z", "description": "pi"})
        );
        assert_eq!(rows[0].json()["expires"], Value::Null);
        assert!(!rows[0].has_expired(now) && !rows[1].has_expired(now));
        assert!(rows[1].has_expired("2026-01-02T00:00:00Z".parse().expect("a time")));
        assert!(id_of("ABC").is_err());
        let random = ring::rand::SystemRandom::new();
        let token = JoinToken::generate([1; 32], &random).expect("random");
        assert_eq!(id_of(&token.to_string()), Ok(token.id));
    }
}
