-- Writes a portion's mark, if its session still delivers. ARGV: its token; then fields and values.
local session = redis.call('HGET', KEYS[1], 'session')
if not session then
  return redis.error_reply('UNMARKED the marker is gone')
end
if session ~= ARGV[1] then
  return redis.error_reply('FENCED another session delivers')
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 'OK'
