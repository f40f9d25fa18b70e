//! The tables, columns and indexes that the server's statements stand on
//! (`src/io/postgres/sql.rs`), a part of Mastodon's schema (`tests/support/schema.sql`).

/// What a column must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bigint,
    Integer,
    Boolean,
    Text,
    Texts,
    Timestamp,
}

impl Kind {
    /// The names that Postgres has for it (`format_type`).
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Kind::Bigint => &["bigint"],
            Kind::Integer => &["integer"],
            Kind::Boolean => &["boolean"],
            Kind::Text => &["text", "character varying"],
            Kind::Texts => &["text[]", "character varying[]"],
            Kind::Timestamp => &["timestamp without time zone"],
        }
    }
}

/// A table that is read.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, Kind)],
    /// The columns that an index must begin with.
    pub(super) indexes: &'static [&'static [&'static str]],
}

use Kind::{Bigint, Boolean, Integer, Text, Texts, Timestamp};

/// Every table that is read.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "oauth_access_tokens",
        columns: &[
            ("id", Bigint),
            ("token", Text),
            ("resource_owner_id", Bigint),
            ("revoked_at", Timestamp),
            ("scopes", Text),
        ],
        indexes: &[&["token"], &["id"]],
    },
    Table {
        name: "users",
        columns: &[
            ("id", Bigint),
            ("account_id", Bigint),
            ("disabled", Boolean),
            ("chosen_languages", Texts),
            ("role_id", Bigint),
        ],
        indexes: &[&["id"]],
    },
    Table {
        name: "accounts",
        columns: &[("id", Bigint), ("suspended_at", Timestamp)],
        indexes: &[&["id"]],
    },
    Table {
        name: "user_roles",
        columns: &[("id", Bigint), ("permissions", Bigint)],
        indexes: &[&["id"]],
    },
    Table {
        name: "lists",
        columns: &[("id", Bigint), ("account_id", Bigint)],
        indexes: &[&["id"]],
    },
    Table { name: "settings", columns: &[("var", Text), ("value", Text)], indexes: &[] },
    Table {
        name: "blocks",
        columns: &[("account_id", Bigint), ("target_account_id", Bigint)],
        indexes: &[&["account_id"], &["target_account_id"]],
    },
    Table {
        name: "mutes",
        columns: &[("account_id", Bigint), ("target_account_id", Bigint)],
        indexes: &[&["target_account_id"]],
    },
    Table {
        name: "account_domain_blocks",
        columns: &[("account_id", Bigint), ("domain", Text)],
        indexes: &[&["account_id", "domain"]],
    },
    Table {
        name: "custom_filters",
        columns: &[
            ("id", Bigint),
            ("account_id", Bigint),
            ("phrase", Text),
            ("context", Texts),
            ("expires_at", Timestamp),
            ("action", Integer),
        ],
        indexes: &[&["account_id"]],
    },
    Table {
        name: "custom_filter_keywords",
        columns: &[
            ("id", Bigint),
            ("custom_filter_id", Bigint),
            ("keyword", Text),
            ("whole_word", Boolean),
        ],
        indexes: &[&["custom_filter_id"]],
    },
];

/// The names of all tables, for a parameter.
pub(super) fn names() -> Vec<&'static str> {
    TABLES.iter().map(|table| table.name).collect()
}
