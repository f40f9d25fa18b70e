-- The part of Mastodon's schema that a streaming server reads.

create table accounts (
  id bigint primary key,
  username text not null default '',
  domain text,
  suspended_at timestamp without time zone
);

create table user_roles (
  id bigint primary key,
  permissions bigint not null default 0
);

create table users (
  id bigint primary key,
  account_id bigint not null,
  disabled boolean not null default false,
  chosen_languages character varying[],
  role_id bigint
);
create index index_users_on_account_id on users (account_id);

create table oauth_access_tokens (
  id bigint primary key,
  token character varying not null,
  resource_owner_id bigint,
  revoked_at timestamp without time zone,
  scopes character varying,
  expires_in integer,
  created_at timestamp without time zone not null default now()
);
create unique index index_oauth_access_tokens_on_token on oauth_access_tokens (token);

create table lists (
  id bigint primary key,
  account_id bigint not null
);
create index index_lists_on_account_id on lists (account_id);

create table settings (
  id bigserial primary key,
  var character varying not null,
  value text
);
create unique index index_settings_on_var on settings (var);

create table blocks (
  id bigserial primary key,
  account_id bigint not null,
  target_account_id bigint not null
);
create unique index index_blocks_on_account_id_and_target on blocks (account_id, target_account_id);
create index index_blocks_on_target_account_id on blocks (target_account_id);

create table mutes (
  id bigserial primary key,
  account_id bigint not null,
  target_account_id bigint not null,
  expires_at timestamp without time zone
);
create unique index index_mutes_on_account_id_and_target on mutes (account_id, target_account_id);
create index index_mutes_on_target_account_id on mutes (target_account_id);

create table account_domain_blocks (
  id bigserial primary key,
  account_id bigint not null,
  domain character varying
);
create unique index index_account_domain_blocks on account_domain_blocks (account_id, domain);

create table custom_filters (
  id bigserial primary key,
  account_id bigint not null,
  phrase text not null default '',
  context character varying[] not null default '{}',
  expires_at timestamp without time zone,
  action integer not null default 0
);
create index index_custom_filters_on_account_id on custom_filters (account_id);

create table custom_filter_keywords (
  id bigserial primary key,
  custom_filter_id bigint not null,
  keyword text not null default '',
  whole_word boolean not null default true
);
create index index_custom_filter_keywords_on_filter on custom_filter_keywords (custom_filter_id);

insert into user_roles (id, permissions) values
  (-99, 65536), (1, 1308), (2, 983036), (3, 1), (4, 1048576);
