//! PostgreSQL and Redis behind tcp and tls listeners, with their own clients. They are not part of the
//! set-up of every run: `cargo xtask test --all` installs them and runs these.

mod open_sessions;
mod setting;
mod sudden_death;
mod through_proxy_protocol;
mod through_tls;
