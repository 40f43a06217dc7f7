-- The same shop in PostgreSQL: what a client's program expects holds there too (scripts/clients postgres).
create schema shop;
create table shop.orders (order_id bigint primary key, user_id bigint not null, status text not null, total numeric(12,2) not null);
create table shop.order_items (order_id bigint references shop.orders, line integer, amount numeric(12,2) not null, primary key (order_id, line));
create table public.people (user_id bigint primary key, name text not null, city text not null, registered_at timestamp not null);
create table public.orders (order_id bigint primary key, user_id bigint not null references people, status text not null, placed_at timestamp not null, day date, total numeric(12,2) not null, is_paid boolean);
create table public.days (day date primary key, orders bigint not null, gmv numeric(22,2));
create view public.newest as select order_id, status, total from orders where is_paid;
comment on table people is 'One row per person.';
comment on table orders is 'One row per order.';
comment on column orders.total is 'What is to be paid.';
comment on table days is 'The shop''s day.';
comment on view newest is 'Orders that are paid.';
insert into people select i, 'Zoë ' || i, 'Köln', timestamp '2026-01-01 09:30:00' + i * interval '1 hour' from generate_series(1, 50) i;
insert into orders select i, 1 + i % 50, 'paid', timestamp '2026-02-01' + i * interval '1 hour', date '2026-02-01', 10 + i / 100.0, true from generate_series(1, 300) i;
insert into shop.orders select order_id, user_id, status, total from orders;
insert into shop.order_items select order_id, 1, total from orders;
insert into days select day, count(*), sum(total) from orders group by day;
