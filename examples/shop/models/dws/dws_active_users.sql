-- People who were there: on a day, in a week (by its Monday), in a month (by its first day).
select 'day' as period, day as begins, count(*) as users
from {{ ref('dwd_user_days') }}
group by day

union all

select 'week' as period, cast(date_trunc('week', day) as date) as begins, count(distinct user_id) as users
from {{ ref('dwd_user_days') }}
group by cast(date_trunc('week', day) as date)

union all

select 'month' as period, cast(date_trunc('month', day) as date) as begins, count(distinct user_id) as users
from {{ ref('dwd_user_days') }}
group by cast(date_trunc('month', day) as date)
