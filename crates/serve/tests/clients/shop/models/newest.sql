{{ config(materialized='view') }}
select order_id, status, total from {{ ref('orders') }} where is_paid
