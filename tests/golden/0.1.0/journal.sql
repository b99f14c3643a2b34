BEGIN TRANSACTION;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "meta" VALUES('service','{"generation":3,"restarts":2}');
CREATE TABLE restarts (number INTEGER PRIMARY KEY, data TEXT NOT NULL);
INSERT INTO "restarts" VALUES(1,'{"kind":"restart","ok":true,"from":2,"to":3}');
CREATE TABLE runs (
    key TEXT PRIMARY KEY, rev INTEGER NOT NULL, ended INTEGER NOT NULL, app TEXT NOT NULL, target TEXT NOT NULL,
    outcome TEXT NOT NULL, sequence INTEGER NOT NULL, ended_at REAL NOT NULL, data TEXT NOT NULL);
INSERT INTO "runs" VALUES('failed',3,0,'app','job','',1,0.0,'{"key":"failed","app":"app","pool":"app","name":"job","target":"shop.jobs:job","params":["\u00e4",1.5,null,{"x":[]}],"error":{"type":"E","message":"m","traceback":"t"},"attempt":2,"generation":1,"submitted_at":1700000000.0,"log":"/var/output/2023-11-14/failed.log","sequence":1,"timeout":600.0,"grace":5.0,"retries":1,"max_running":3,"not_before":1001.0,"rev":3}');
INSERT INTO "runs" VALUES('r1',8,0,'app','job','',3,0.0,'{"key":"r1","app":"app","pool":"app","name":"job","target":"shop.jobs:job","state":"running","progress":{"done":1,"total":2,"note":"half"},"generation":1,"worker":2,"pid":2,"submitted_at":1700000000.0,"started_at":1700000000.0,"log":"/var/output/2023-11-14/r1.log","priority":1,"sequence":3,"timeout":60.0,"grace":5.0,"max_running":3,"env":{"A":"b"},"start_by":4600.0,"started":1000.0,"deadline":1060.0,"rev":8}');
INSERT INTO "runs" VALUES('r2',14,0,'app','job','',4,0.0,'{"key":"r2","app":"app","pool":"app","name":"job","target":"shop.jobs:job","state":"running","generation":1,"worker":1,"pid":1,"submitted_at":1700000000.0,"started_at":1700000000.0,"log":"/var/output/2023-11-14/r2.log","priority":1,"sequence":4,"timeout":60.0,"grace":5.0,"max_running":3,"env":{"A":"b"},"start_by":4600.0,"started":1000.0,"deadline":1060.0,"kill_reason":"cancelled","kill_at":1005.0,"rev":14}');
INSERT INTO "runs" VALUES('r3',12,0,'app','job','',5,0.0,'{"key":"r3","app":"app","pool":"app","name":"job","target":"shop.jobs:job","state":"running","generation":1,"worker":3,"pid":3,"submitted_at":1700000000.0,"started_at":1700000000.0,"log":"/var/output/2023-11-14/r3.log","priority":1,"sequence":5,"timeout":60.0,"grace":5.0,"max_running":3,"env":{"A":"b"},"start_by":4600.0,"started":1000.0,"deadline":1060.0,"rev":12}');
INSERT INTO "runs" VALUES('waits',13,0,'app','job','',6,0.0,'{"key":"waits","app":"app","pool":"app","name":"job","target":"shop.jobs:job","generation":1,"submitted_at":1700000000.0,"log":"/var/output/2023-11-14/waits.log","priority":1,"sequence":6,"timeout":60.0,"grace":5.0,"max_running":3,"env":{"A":"b"},"start_by":4600.0,"rev":13}');
INSERT INTO "runs" VALUES('later',15,0,'app','job','',7,0.0,'{"key":"later","app":"app","pool":"app","name":"job","target":"shop.jobs:job","generation":1,"submitted_at":1700000000.0,"log":"/var/output/2023-11-14/later.log","sequence":7,"timeout":600.0,"grace":5.0,"max_running":3,"not_before":1600.0,"start_by":1630.0,"rev":15}');
INSERT INTO "runs" VALUES('ended',6,1,'app','job','ok',2,1700000000.0,'{"key":"ended","app":"app","pool":"app","name":"job","target":"shop.jobs:job","params":{"day":"2026-01-31"},"state":"ended","outcome":"ok","retcode":0,"result":{"rows":3},"generation":1,"worker":2,"pid":2,"submitted_at":1700000000.0,"started_at":1700000000.0,"ended_at":1700000000.0,"cpu":0.5,"max_rss":1048576,"log":"/var/output/2023-11-14/ended.log","sequence":2,"timeout":600.0,"grace":5.0,"max_running":3,"labels":{"team":"a"},"start_by":4600.0,"started":1000.0,"deadline":1600.0,"rev":6}');
CREATE INDEX runs_changed ON runs (ended, rev);
CREATE INDEX runs_sequence ON runs (sequence);
CREATE INDEX runs_ended ON runs (ended_at) WHERE ended = 1;
COMMIT;
PRAGMA user_version = 1;
