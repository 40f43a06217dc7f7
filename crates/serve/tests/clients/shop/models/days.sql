select day, count(*) as orders, sum(total) as gmv from {{ ref('orders') }} group by day
