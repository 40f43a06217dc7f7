select
    order_id,
    payment_sequential as payment_no,
    coalesce(payment_type, 'not_defined') as payment_type,
    payment_installments as installments,
    payment_value as amount
from {{ source('olist', 'order_payments') }}
