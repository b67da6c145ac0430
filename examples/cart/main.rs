//! `cart`: a run that is asked for things by many, looks at each request before it is taken, and answers it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use everpulse::Run;
use everpulse::prelude::*;
use serde::{Deserialize, Serialize};

/// What is in a cart, by item.
type Items = BTreeMap<String, u32>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum CartError {
    #[error("{asked} more are too many, there is room for {room}")]
    TooMany { asked: u32, room: u32 },
    #[error("there is no {0} in stock")]
    OutOfStock(String),
}

/// Puts something into the cart. What does not fit is refused at once, and is no part of the cart's history.
#[update(reply = Items, error = CartError)]
#[derive(Serialize, Deserialize)]
struct Add {
    item: String,
    count: u32,
}

#[signal]
#[derive(Serialize, Deserialize)]
struct CheckOut {}

/// In earnest this asks the warehouse.
#[activity(timeout = "10s")]
async fn is_in_stock(item: String) -> bool {
    item != "unicorn"
}

/// Sells what is in it when somebody checks out, or after an hour without that.
#[workflow(version = 1)]
async fn cart(size: u32) -> Items {
    let items = Rc::new(RefCell::new(Items::new()));
    let held = Rc::clone(&items);
    let fits = Rc::new(move |add: &Add| {
        let room = size.saturating_sub(held.borrow().values().sum());
        if add.count > room { Err(CartError::TooMany { asked: add.count, room }) } else { Ok(()) }
    });
    let looks = Rc::clone(&fits);
    let adds = update::<Add>().validate(move |add| looks(add));
    loop {
        select! {
            add = adds.recv() => {
                let in_stock = is_in_stock(add.item.clone()).await.unwrap_or(false);
                // Others may have been let pass while that was asked.
                let answer = fits(&add).and_then(|()| match in_stock {
                    true => {
                        *items.borrow_mut().entry(add.item.clone()).or_default() += add.count;
                        Ok(items.borrow().clone())
                    }
                    false => Err(CartError::OutOfStock(add.item.clone())),
                });
                add.reply(answer);
            },
            _ = signal::<CheckOut>().recv() => break,
            _ = sleep(Duration::from_secs(3_600)) => break,
        }
    }
    items.take()
}

/// Carts that live for an hour, durably.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR or pulsar://HOST:PORT [default: a directory of yours, with no server]
    #[arg(long, env = "EVERPULSE_URL", global = true)]
    url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until Ctrl-C
    Worker,
    /// Put something into a cart, which begins with the first thing
    Add {
        cart: String,
        item: String,
        #[arg(default_value_t = 1)]
        count: u32,
        /// Under the same id it is put in once, however often this is said
        #[arg(long)]
        id: Option<String>,
    },
    /// Buy what is in a cart
    CheckOut { cart: String },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // RUST_LOG overrides it. The client library below tells every reconnect, which is not for users.
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,pulsar=off".to_owned());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    let Arguments { url, command } = Arguments::parse();
    let url = url.as_deref();
    match command {
        Command::Worker => {
            let worker = match url {
                Some(url) => Worker::connect(url).await,
                None => Worker::connect_from_env().await,
            };
            worker.context("cannot start a worker")?.workflow(cart).activity(is_in_stock).run().await?;
        }
        Command::Add { cart: name, item, count, id } => {
            // Whoever comes first begins the cart, all others are attached.
            let run: Run<_> = client(url).await?.start(cart(20)).id(name).await?;
            let mut adding = run.update(Add { item, count });
            if let Some(id) = id {
                adding = adding.id(id);
            }
            let items = adding.await?;
            println!("{}", serde_json::to_string(&items)?);
        }
        Command::CheckOut { cart: name } => {
            let run = client(url).await?.run(cart, name);
            run.signal(CheckOut {}).await?;
            println!("{}", serde_json::to_string(&run.result().await?)?);
        }
    }
    Ok(())
}

async fn client(url: Option<&str>) -> anyhow::Result<Client> {
    let client = match url {
        Some(url) => Client::connect(url).await,
        None => Client::connect_from_env().await,
    };
    client.context("cannot reach the application")
}
