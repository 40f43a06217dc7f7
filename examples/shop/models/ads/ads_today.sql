-- One row: the newest day on which something was ordered, and the day before it beside it.
with newest as (
    select day, cast(day - interval '1 day' as date) as day_before
    from (select day from {{ ref('dws_trade_day') }} order by day desc limit 1) as days
),

new_users as (
    select day, sum(new_users) as new_users
    from {{ ref('dws_new_users_day') }}
    group by day
),

active as (
    select begins as day, users
    from {{ ref('dws_active_users') }}
    where period = 'day'
)

select
    n.day,
    t.orders,
    t.gmv,
    t.buyers,
    coalesce(r.amount, cast(0 as decimal(12, 2))) as refunds,
    coalesce(a.users, 0) as active_users,
    coalesce(u.new_users, 0) as new_users,
    n.day_before,
    coalesce(tb.orders, 0) as orders_before,
    coalesce(tb.gmv, cast(0 as decimal(12, 2))) as gmv_before,
    coalesce(tb.buyers, 0) as buyers_before,
    coalesce(rb.amount, cast(0 as decimal(12, 2))) as refunds_before,
    coalesce(ab.users, 0) as active_users_before,
    coalesce(ub.new_users, 0) as new_users_before
from newest as n
inner join {{ ref('dws_trade_day') }} as t on t.day = n.day
left join {{ ref('dws_refund_day') }} as r on r.day = n.day
left join active as a on a.day = n.day
left join new_users as u on u.day = n.day
left join {{ ref('dws_trade_day') }} as tb on tb.day = n.day_before
left join {{ ref('dws_refund_day') }} as rb on rb.day = n.day_before
left join active as ab on ab.day = n.day_before
left join new_users as ub on ub.day = n.day_before
